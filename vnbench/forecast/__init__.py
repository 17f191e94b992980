"""What a card would take that is not at hand."""
