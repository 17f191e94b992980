"""The network under test, VeerNet, with its normalization and its loss."""
