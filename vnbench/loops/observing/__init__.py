"""Records of people's own training: what a loop is watched by, and what it leaves."""
