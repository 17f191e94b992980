"""Options in, one call of a command each."""
