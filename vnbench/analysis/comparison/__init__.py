"""Compare two revisions, or configurations of one sweep, with intervals."""
