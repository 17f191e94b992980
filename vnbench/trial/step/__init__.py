"""The training step: network, precision, layout, compilation, and the same on fake tensors."""
