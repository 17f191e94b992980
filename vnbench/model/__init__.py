"""The network under test: VeerNet, its normalization and its loss."""
