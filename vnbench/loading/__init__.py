"""Batches from image files, in the training process or in workers."""
