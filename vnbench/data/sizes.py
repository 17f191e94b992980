"""The name that vnbench.batching.sizes had in earlier versions."""

from vnbench.batching.sizes import SizeDistribution, draw_sizes, read_sizes_csv

__all__ = ["SizeDistribution", "draw_sizes", "read_sizes_csv"]
