"""Forecasts for cards that are not at hand, and the traces that they rest on."""
