"""Loading of batches from image files, in the training process or in workers."""
