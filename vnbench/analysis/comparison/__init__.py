"""Sides compared with an interval: two revisions, or configurations of one sweep."""
