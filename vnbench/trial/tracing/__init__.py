"""Traces of the training step as CUDA would run it, on fake tensors on the CPU, without CUDA."""
