"""Words, numbers and names that tables, figures and pages share."""
