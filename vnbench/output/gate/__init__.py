"""What the gate tells: in a terminal, in Markdown, to a runner of tests."""
