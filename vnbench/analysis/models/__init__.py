"""Fit laws and models to records: step time, memory, loading."""
