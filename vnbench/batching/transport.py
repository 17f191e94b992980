"""How many bytes of batches are on their way from loader workers at once: what /dev/shm has to hold."""

from __future__ import annotations

import numpy as np

from vnbench.batching.alignment import IntArray

BYTES_PER_PIXEL = 2
"""Of image and mask, a byte each, as batches travel."""

HELD = 2
"""Batches that have arrived and are not let go of yet: one is trained on, one waits to be pinned or taken."""


def batch_bytes(padded_pixels: int) -> int:
    """Return the bytes of a batch of so many padded pixels; its sizes, a few bytes per example, are not counted."""
    return BYTES_PER_PIXEL * padded_pixels


def bytes_in_flight(padded_pixels_M: IntArray, *, num_workers: int, prefetch_factor: int) -> int:
    """Return the most bytes of batches between workers and training at once, for micro-batches in this order.

    Each worker has ``prefetch_factor`` of them ahead; 0 without workers.
    """
    if num_workers == 0 or len(padded_pixels_M) == 0:
        return 0
    window = min(num_workers * prefetch_factor + HELD, len(padded_pixels_M))
    sums = np.convolve(np.asarray(padded_pixels_M, dtype=np.int64), np.ones(window, dtype=np.int64), mode="valid")
    return batch_bytes(int(sums.max()))
