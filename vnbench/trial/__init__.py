"""What runs in the process of a trial, where torch is."""
