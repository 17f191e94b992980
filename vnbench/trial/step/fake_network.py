"""A network on fake tensors, which have shapes, dtypes and lifetimes but no values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode


@contextmanager
def faked(network: nn.Module, *, device: torch.device | None = None) -> Iterator[nn.Module]:
    """Return a context with a fake copy of a network, in which every new tensor is fake.

    Its parameters and buffers are on ``device`` if one is given, as after ``Module.to``.

    The network itself is built for real, so its constructor and its file may do anything. An operator without a shape
    rule raises an error: otherwise it would run for real and use real memory.
    """
    mode = FakeTensorMode(allow_fallback_kernels=False)
    with FakeCopyMode(mode):
        copied = copy.deepcopy(network)
    if device is not None:
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.fake_device = device  # type: ignore[attr-defined]  # a FakeTensor
    with mode:
        yield copied
