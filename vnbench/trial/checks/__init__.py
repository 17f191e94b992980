"""What a step is held against before its time counts."""
