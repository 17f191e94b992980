"""The training step, on real and on fake tensors: network, precision, layout and compilation."""
