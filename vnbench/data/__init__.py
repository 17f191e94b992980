"""Modules of vnbench.batching under their names of earlier versions, for code that imports them."""
