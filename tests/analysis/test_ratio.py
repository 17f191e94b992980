from __future__ import annotations

import math

import pytest

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.ratio import Ratio

T_2 = 4.302652729911275
"""Student's t at 0.975 with two degrees of freedom."""


def test_the_interval_of_a_ratio_is_that_of_its_logarithm() -> None:
    ratio = Ratio(log=Estimate(value=math.log(2), se=0.1, dof=2))
    assert ratio.value == pytest.approx(2)
    assert ratio.half_width == pytest.approx(T_2 * 0.1)
    assert ratio.interval == pytest.approx((2 * math.exp(-T_2 * 0.1), 2 * math.exp(T_2 * 0.1)))
    assert ratio.is_told_apart
    assert ratio.inverse.interval == pytest.approx(tuple(1 / end for end in reversed(ratio.interval or ())))


def test_a_ratio_without_an_error_is_told_from_nothing() -> None:
    ratio = Ratio(log=Estimate(value=3.0))
    assert (ratio.interval, ratio.is_told_apart, ratio.is_slower(0.0)) == (None, False, False)
    assert ratio.smallest_detectable(0.01) is None


def test_ends_that_are_no_number_any_more_are_the_largest_there_is() -> None:
    low, high = Ratio(log=Estimate(value=0.0, se=1e6)).interval or (1.0, 1.0)
    assert low == 0.0
    assert math.isfinite(high)
    assert high > 1e300


def test_slower_is_beyond_the_interval_and_beyond_the_tolerance() -> None:
    ratio = Ratio(log=Estimate(value=math.log(1.05), se=0.01))
    assert ratio.is_slower(0.04)
    assert not ratio.is_slower(0.06)
    assert not Ratio(log=Estimate(value=math.log(1.05), se=0.1)).is_slower(0.04)
