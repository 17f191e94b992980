"""Code that runs in the process of a trial, with torch."""
