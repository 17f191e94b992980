"""``vnbench forecast``: what a card would take that is not at hand."""
