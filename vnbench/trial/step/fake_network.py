"""A network on fake tensors: shapes, dtypes and lifetimes as they are, and no numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode


@contextmanager
def faked(network: nn.Module) -> Iterator[nn.Module]:
    """Enter a context in which every new tensor is a fake one, with a copy of a network that holds such tensors.

    The network is one that was made for real, whatever its constructor and its file do. An operator that tells no
    shapes raises: it would otherwise be run, on as much memory as it takes.
    """
    mode = FakeTensorMode(allow_fallback_kernels=False)
    with FakeCopyMode(mode):
        copied = copy.deepcopy(network)
    with mode:
        yield copied
