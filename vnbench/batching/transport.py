"""Compute how many bytes of batches are in flight from loader workers at once: what /dev/shm must hold."""

from __future__ import annotations

import numpy as np

from vnbench.batching.alignment import IntArray

BYTES_PER_PIXEL = 2
"""Bytes per pixel of a batch in flight: one for the image, one for the mask."""

HELD = 2
"""Batches that have arrived but are not yet released: one in training, one waiting to be pinned or taken."""


def batch_bytes(padded_pixels: int) -> int:
    """Return the bytes of a batch of ``padded_pixels``, without its sizes (a few bytes per example)."""
    return BYTES_PER_PIXEL * padded_pixels


def bytes_in_flight(padded_pixels_M: IntArray, *, num_workers: int, prefetch_factor: int) -> int:
    """Return the most bytes of batches between workers and training at once, for micro-batches in this order.

    Each worker prefetches ``prefetch_factor`` micro-batches. Without workers the result is 0.
    """
    if num_workers == 0 or len(padded_pixels_M) == 0:
        return 0
    window = min(num_workers * prefetch_factor + HELD, len(padded_pixels_M))
    sums = np.convolve(np.asarray(padded_pixels_M, dtype=np.int64), np.ones(window, dtype=np.int64), mode="valid")
    return batch_bytes(int(sums.max()))
