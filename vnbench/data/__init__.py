"""What the network is fed: sizes, image files, batches, padded tensors."""
