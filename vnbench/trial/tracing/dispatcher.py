"""Kernels of one's own in torch's dispatcher, for as long as a context is entered."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def registered(table: str, kernels: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Enter a context in which operators of aten run these kernels where a table of the dispatcher is asked.

    Operators are named as in schemas: ``conv2d``, ``pow.Scalar``. What stood there before is put back at the end.
    """
    library: Any = torch.library.Library("aten", "IMPL", table)  # type: ignore[no-untyped-call]  # torch 2.13
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where another kernel stood
            for name, kernel in kernels.items():
                library.impl(name, kernel)
        yield
    finally:
        library._destroy()
