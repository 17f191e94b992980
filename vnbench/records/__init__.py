"""What is asked, what was observed, and the files that hold both."""
