"""What each kind of trial measures."""
