"""The training step as CUDA would run it, traced on fake tensors that lie on the CPU, with no CUDA anywhere."""
