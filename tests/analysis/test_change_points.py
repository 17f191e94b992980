"""Changes of the mean of parallel series are found, and chance shows few: simulated with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vnbench.analysis.statistics.change_points import change_points

NUM_SERIES, NUM_SWEEPS = 10, 30
LEVEL = 0.02


def found_in(values_SN: NDArray[np.float64]) -> tuple[int, ...]:
    return change_points(values_SN, cuts=range(1, values_SN.shape[1]), level=LEVEL, seed=0)


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_series_without_a_change_seldom_show_one(tails: str) -> None:
    drawn = np.random.default_rng(1)
    num = 150
    shape = (num, NUM_SERIES, NUM_SWEEPS)
    values = drawn.normal(size=shape) if tails == "normal" else drawn.standard_t(3, size=shape)
    assert sum(bool(found_in(values_SN)) for values_SN in values) <= 0.05 * num


def test_a_step_is_found_where_it_is() -> None:
    drawn = np.random.default_rng(2)
    values_SN = drawn.normal(size=(NUM_SERIES, NUM_SWEEPS))
    values_SN[3, 12:] += 5
    assert found_in(values_SN) == (12,)


def test_a_change_that_is_taken_back_is_two_changes() -> None:
    drawn = np.random.default_rng(3)
    values_SN = drawn.normal(scale=0.1, size=(NUM_SERIES, NUM_SWEEPS))
    values_SN[0, 10:15] += 1
    assert found_in(values_SN) == (10, 15)


def test_a_change_is_only_looked_for_where_one_can_be() -> None:
    values_SN = np.where(np.arange(20) < 9, 0.0, 1.0)[None] + np.random.default_rng(4).normal(scale=0.01, size=(1, 20))
    assert change_points(values_SN, cuts=[5, 10, 15], level=LEVEL, seed=0) == (10,)


def test_gaps_and_series_that_never_vary_are_no_change() -> None:
    values_SN = np.random.default_rng(5).normal(size=(3, 24))
    values_SN[0, ::2] = np.nan
    values_SN[1] = 7.0
    values_SN[2] = np.nan
    assert found_in(values_SN) == ()
    values_SN[0, 12:] += 20
    assert found_in(values_SN) in ((12,), (13,))


@pytest.mark.parametrize("num_sweeps", [1, 3, 9])
def test_too_few_sweeps_show_no_change_however_large(num_sweeps: int) -> None:
    values_SN = np.arange(num_sweeps) * np.ones((2, 1)) ** 3
    assert found_in(values_SN) == ()
