"""Choose the examples that every trial of a sweep measures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def choose_subset(sizes_N2: NDArray[np.int64], *, subset_size: int) -> NDArray[np.int64]:
    """Return the indices, ascending, of ``subset_size`` examples whose areas represent all areas evenly.

    The examples are sorted by area (ties by index) and split into ``subset_size`` equal shares; the middle example of
    each share is chosen. So a few examples already have about the mean and spread of the whole. If ``subset_size`` is
    at least the number of examples, all are returned. ``sizes_N2`` holds (height, width) in pixels.

    Raises:
        ValueError: ``subset_size`` is below 1, or there are no examples.
    """
    if subset_size < 1 or len(sizes_N2) == 0:
        raise ValueError(f"cannot choose {subset_size} of {len(sizes_N2)} examples")
    count = min(subset_size, len(sizes_N2))
    by_area = np.argsort(sizes_N2[:, 0] * sizes_N2[:, 1], kind="stable")
    middles = ((np.arange(count) + 0.5) * len(sizes_N2) / count).astype(np.int64)
    return np.sort(by_area[middles])
