"""Means, variances and their intervals, of plain numbers."""
