"""A network on fake tensors, which have shapes, dtypes and lifetimes but no values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode


@contextmanager
def faked(network: nn.Module) -> Iterator[nn.Module]:
    """Return a context with a fake copy of a network, in which every new tensor is fake.

    The network itself is built for real, so its constructor and its file may do anything. An operator without a shape
    rule raises an error: otherwise it would run for real and use real memory.
    """
    mode = FakeTensorMode(allow_fallback_kernels=False)
    with FakeCopyMode(mode):
        copied = copy.deepcopy(network)
    with mode:
        yield copied
