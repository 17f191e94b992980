"""Compute means, variances and their intervals from plain numbers."""
