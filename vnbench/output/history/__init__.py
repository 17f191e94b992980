"""The history of a machine's figures: what changed at which revision, in words and in a figure."""
