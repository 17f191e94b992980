"""What the values of specs and records may be, and what they are known by."""
