from __future__ import annotations

import numpy as np
import pytest

from vnbench.batching.transport import HELD, bytes_in_flight

PIXELS_M = np.array([100, 1, 1, 1, 50, 60, 70, 1])


def test_the_worst_stretch_of_the_plan_counts() -> None:
    # One worker with one ahead, and two held: three batches in a row, 50 + 60 + 70 pixels of two bytes.
    assert HELD == 2
    assert bytes_in_flight(PIXELS_M, num_workers=1, prefetch_factor=1) == 2 * 180


def test_more_workers_than_batches_hold_all_of_them() -> None:
    assert bytes_in_flight(PIXELS_M, num_workers=8, prefetch_factor=2) == 2 * PIXELS_M.sum()


@pytest.mark.parametrize(("pixels", "workers"), [(PIXELS_M, 0), (PIXELS_M[:0], 4)])
def test_without_workers_or_batches_nothing_is_under_way(pixels: np.ndarray, workers: int) -> None:
    assert bytes_in_flight(pixels, num_workers=workers, prefetch_factor=2) == 0


def test_the_worst_case_of_two_workers_is_told_without_overflow() -> None:
    pixels_M = np.full(100, 16 * 640 * 12_800)
    assert bytes_in_flight(pixels_M, num_workers=8, prefetch_factor=2) == 18 * 2 * 16 * 640 * 12_800
