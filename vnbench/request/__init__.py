"""What the user said: options, defaults, definitions, networks of one's own."""
