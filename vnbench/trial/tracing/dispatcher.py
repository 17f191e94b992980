"""Temporary replacement of kernels in torch's dispatcher."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def registered(table: str, kernels: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Return a context in which aten operators run these kernels for one table of the dispatcher.

    Operators are named as in schemas, such as ``conv2d`` or ``pow.Scalar``. The previous kernels are restored at the
    end.
    """
    library: Any = torch.library.Library("aten", "IMPL", table)  # type: ignore[no-untyped-call]  # torch 2.13
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about replaced kernels
            for name, kernel in kernels.items():
                library.impl(name, kernel)
        yield
    finally:
        library._destroy()
