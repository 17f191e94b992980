"""What a whole run takes, and which configuration to take for it."""
