"""Summarise the records of trials, kind by kind."""
