from __future__ import annotations

import math

import pytest

from vnbench.analysis.statistics.estimate import Estimate, student_t, sum_of_variances

T_2, T_2_OF_90 = 4.302652729911275, 2.919985580353726
"""Student's t at 0.975 and 0.95 with two degrees of freedom."""

FEW = Estimate(value=10.0, se=0.5, dof=2)


def test_an_interval_is_students_t_of_its_level_to_both_sides() -> None:
    assert FEW.half_width == pytest.approx(T_2 * 0.5)
    assert FEW.relative_half_width == pytest.approx(T_2 * 0.05)
    assert FEW.interval() == pytest.approx((10 - T_2 * 0.5, 10 + T_2 * 0.5))
    assert FEW.interval(0.9) == pytest.approx((10 - T_2_OF_90 * 0.5, 10 + T_2_OF_90 * 0.5))
    assert Estimate(value=1.0, se=1.0).half_width == pytest.approx(1.959964, abs=1e-6), "plenty of degrees of freedom"


def test_what_nothing_tells_has_no_interval() -> None:
    bare = Estimate(value=3.0)
    assert (bare.relative_error, bare.half_width, bare.relative_half_width, bare.interval()) == (None,) * 4
    assert (bare * 2, bare / 2, bare.at(6.0)) == (Estimate(value=6.0), Estimate(value=1.5), Estimate(value=6.0))


def test_an_exact_factor_takes_the_error_along() -> None:
    assert Estimate(value=30.0, se=1.5, dof=2) == FEW * 3
    assert Estimate(value=-30.0, se=1.5, dof=2) == FEW * -3
    assert Estimate(value=2.5, se=0.125, dof=2) == FEW / 4
    assert FEW.at(1.0) == Estimate(value=1.0, se=0.05, dof=2)


def test_a_sum_of_variances_has_the_degrees_of_freedom_of_welch_and_satterthwaite() -> None:
    # (3 + 1)^2 / (9 / 3 + 1 / 1)
    assert sum_of_variances([(3.0, 3), (1.0, 1)]) == (4.0, 4.0)
    assert sum_of_variances([(3.0, 3), (0.0, 1)]) == (3.0, 3.0), "a part without variance says nothing"
    assert sum_of_variances([(3.0, 3), (1.0, math.inf)]) == (4.0, pytest.approx(16 / 3))


def test_parts_without_variance_are_as_sure_as_the_least_known_of_them() -> None:
    assert sum_of_variances([(0.0, 3), (0.0, 5)]) == (0.0, 3)
    assert sum_of_variances([(2.0, math.inf)]) == (2.0, math.inf)
    assert sum_of_variances([]) == (0.0, math.inf)


def test_students_t_falls_with_its_degrees_of_freedom_to_the_normal_quantile() -> None:
    assert student_t(1) > student_t(1.5) > student_t(2) > student_t(math.inf)
