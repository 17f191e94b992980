"""Benchmark the training of segmentation networks on images of very different sizes: throughput and memory."""
