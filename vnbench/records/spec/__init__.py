"""What is asked: the specification of a trial, of each kind, and what a sweep can vary in it."""
