"""vnbench.batching.sizes under its name of earlier versions."""

from vnbench.batching.sizes import SizeDistribution, draw_sizes, read_sizes_csv

__all__ = ["SizeDistribution", "draw_sizes", "read_sizes_csv"]
