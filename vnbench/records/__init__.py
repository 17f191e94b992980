"""Specs of trials, records of trials, and the files that hold both."""
