"""Throughput and memory benchmarks for training segmentation networks on images of very different sizes."""
