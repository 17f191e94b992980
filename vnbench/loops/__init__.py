"""Training loops of other people: whether they do what they say. Its modules import torch."""
