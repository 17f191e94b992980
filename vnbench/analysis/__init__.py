"""Analyse records with pure functions: statistics, summaries, models, plans and comparisons."""
