"""Forecasts for cards that are not available, and the traces behind them."""
