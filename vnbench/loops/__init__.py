"""Training loops of other people: whether they do what they say, and how they go on after a stop.

Its modules import torch.
"""
