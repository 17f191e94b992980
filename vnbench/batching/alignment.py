"""Round canvas sides up to lengths that every stage of the encoder can halve."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vnbench.records.spec.words import ALIGNMENT

IntArray: TypeAlias = npt.NDArray[np.int64]

_Lengths = TypeVar("_Lengths", int, IntArray)


def align(length: _Lengths) -> _Lengths:
    """Return a length in pixels, or an array of lengths, rounded up to a multiple of ALIGNMENT."""
    return -(-length // ALIGNMENT) * ALIGNMENT
