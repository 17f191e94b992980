from __future__ import annotations

import numpy as np
import pytest

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.batching.subset import choose_subset
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))


def test_the_middles_of_equal_shares_by_area_are_taken() -> None:
    sizes = np.array([[1, area] for area in (50, 10, 40, 20, 30, 60)])
    # by area: 1 3 | 4 2 | 0 5; the middle of each pair is its second
    assert choose_subset(sizes, subset_size=3).tolist() == [2, 3, 5]
    assert choose_subset(sizes, subset_size=1).tolist() == [2]


def test_a_handful_has_about_the_mean_of_all() -> None:
    sizes = draw_sizes(LOGS, 1000, seed=1)
    mean = sizes.prod(axis=1).mean()
    assert sizes[choose_subset(sizes, subset_size=6)].prod(axis=1).mean() == pytest.approx(mean, rel=0.03)


def test_a_subset_as_large_as_all_is_all_and_each_once() -> None:
    sizes = draw_sizes(LOGS, 7, seed=0)
    for size in (7, 100):
        assert choose_subset(sizes, subset_size=size).tolist() == list(range(7))


def test_nothing_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="cannot choose 0 of 2"):
        choose_subset(np.ones((2, 2), dtype=np.int64), subset_size=0)
