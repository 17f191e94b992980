"""A function in a fresh process, and what processes share: locks and interrupts."""
