"""The report and its figures, drawn from records."""
