"""Choosing the examples that every trial of a sweep measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def choose_subset(sizes_N2: NDArray[np.int64], *, subset_size: int) -> NDArray[np.int64]:
    """Return the indices of ``subset_size`` examples whose areas are evenly spread over those of all, ascending.

    The k-th is the example at the middle of the k-th of ``subset_size`` equal shares of the examples sorted by area
    (ties by index), so that a handful of examples already has about the mean and the spread of the whole. All of them
    come back where ``subset_size`` is as large as their number. ``sizes_N2`` holds (height, width) in pixels.

    Raises:
        ValueError: ``subset_size`` below 1, or no examples.
    """
    if subset_size < 1 or len(sizes_N2) == 0:
        raise ValueError(f"cannot choose {subset_size} of {len(sizes_N2)} examples")
    count = min(subset_size, len(sizes_N2))
    by_area = np.argsort(sizes_N2[:, 0] * sizes_N2[:, 1], kind="stable")
    middles = ((np.arange(count) + 0.5) * len(sizes_N2) / count).astype(np.int64)
    return np.sort(by_area[middles])
