"""What the records of trials say by themselves."""
