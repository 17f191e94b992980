import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.statistics.means import (
    correlated_ratio_of_sums,
    find_outliers,
    mean,
    ratio_of_sums,
    repeated_ratio_of_sums,
)

T_2 = 4.302652729911275
"""Student's t at 0.975 with two degrees of freedom, from its closed form 0.95 sqrt(2 / (1 - 0.95^2))."""


def test_students_t_agrees_with_its_closed_form_at_two_degrees_of_freedom() -> None:
    assert pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2))) == T_2
    assert student_t(2) == pytest.approx(T_2)


def test_mean_has_the_hand_worked_half_width() -> None:
    # mean 2, s^2 = (1 + 0 + 1) / 2 = 1, standard error 1 / sqrt(3)
    estimate = mean([1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.se == pytest.approx(1 / math.sqrt(3))
    assert estimate.half_width == pytest.approx(T_2 / math.sqrt(3))
    assert estimate.dof == 2


def test_ratio_has_the_hand_worked_half_width() -> None:
    # R = 12 / 6 = 2; residuals 3 - 2, 3 - 4, 6 - 6 = 1, -1, 0; mean(x) = 2; se = sqrt(2 / (3 * 2)) / 2
    estimate = ratio_of_sums([3.0, 3.0, 6.0], [1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.se == pytest.approx(math.sqrt(1 / 3) / 2)
    assert estimate.half_width == pytest.approx(T_2 * math.sqrt(1 / 3) / 2)
    assert estimate.relative_half_width == pytest.approx(T_2 * math.sqrt(1 / 3) / 4)


def test_ratio_weighs_steps_by_their_pixels() -> None:
    assert ratio_of_sums([1.0, 9.0], [1.0, 3.0]).value == 2.5


def test_time_proportional_to_pixels_has_no_uncertainty() -> None:
    estimate = ratio_of_sums([2.0, 4.0, 20.0], [1.0, 2.0, 10.0])
    assert estimate.half_width == 0


def test_relative_half_width_is_the_same_both_ways_up() -> None:
    times, pixels = [3.0, 3.5, 6.1, 2.0], [1.0, 2.0, 3.0, 1.5]
    forward, backward = ratio_of_sums(times, pixels), ratio_of_sums(pixels, times)
    assert forward.value * backward.value == pytest.approx(1)
    assert forward.relative_half_width == pytest.approx(backward.relative_half_width)


@pytest.mark.parametrize("estimate", [mean([4.0]), ratio_of_sums([8.0], [2.0])])
def test_one_observation_has_a_value_and_no_interval(estimate) -> None:
    assert estimate.value == 4
    assert estimate.se is None
    assert estimate.half_width is None
    assert estimate.relative_half_width is None


def test_zero_has_no_relative_half_width() -> None:
    assert mean([-1.0, 1.0]).relative_half_width is None


@pytest.mark.parametrize(
    ("numerators", "denominators", "message"),
    [
        ([], [], "at least one"),
        ([1.0, 2.0], [1.0], "pairs"),
        ([1.0, math.nan], [1.0, 1.0], "not finite"),
        ([1.0, 2.0], [0.0, 0.0], "positive sum"),
    ],
)
def test_what_is_no_ratio_is_refused(numerators, denominators, message) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_of_sums(numerators, denominators)


@given(st.lists(st.floats(0.001, 1e3), min_size=2, max_size=20), st.floats(0.01, 100))
def test_half_width_scales_with_the_unit(values, factor) -> None:
    plain, scaled = mean(values), mean([factor * value for value in values])
    assert plain.half_width is not None
    assert scaled.half_width == pytest.approx(factor * plain.half_width, rel=1e-6, abs=1e-9 * factor)


def test_interval_of_a_ratio_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.Generator(np.random.Philox(key=1))
    hits = 0
    for _ in range(400):
        pixels = random.uniform(2, 8, size=30)
        times = 3 * pixels * random.normal(1, 0.1, size=30)
        estimate = ratio_of_sums(times.tolist(), pixels.tolist())
        assert estimate.half_width is not None
        hits += abs(estimate.value - 3) <= estimate.half_width
    # 400 draws at 95 % have a standard deviation of 1.1 %; the linearisation costs about one per cent more.
    assert 0.91 <= hits / 400 <= 0.98


def autoregressive(random: np.random.Generator, *, n: int, phi: float) -> list[float]:
    """Return n values around 1 with a standard deviation of 0.02, each pulled towards the one before."""
    noise = random.normal(0, 0.02 * math.sqrt(1 - phi**2), size=n)
    values = [random.normal(0, 0.02)]
    for shock in noise[1:]:
        values.append(phi * values[-1] + shock)
    return [1 + value for value in values]


def test_intervals_of_correlated_steps_hold_where_those_of_independent_draws_do_not() -> None:
    random = np.random.Generator(np.random.Philox(key=3))
    n, runs = 256, 400
    plain = grouped = 0
    for _ in range(runs):
        values = autoregressive(random, n=n, phi=0.9)
        naive, honest = mean(values), correlated_ratio_of_sums(values, [1.0] * n)
        assert naive.half_width is not None
        assert honest.half_width is not None
        plain += abs(naive.value - 1) <= naive.half_width
        grouped += abs(honest.value - 1) <= honest.half_width
    assert plain / runs < 0.5, "95 % intervals that take steps as independent"
    assert grouped / runs > 0.85


def test_intervals_of_independent_steps_lose_little_by_looking_for_correlation() -> None:
    random = np.random.Generator(np.random.Philox(key=4))
    runs = 400
    covered = 0
    num_grouped = 0
    for _ in range(runs):
        values = random.normal(1, 0.02, size=64).tolist()
        estimate = correlated_ratio_of_sums(values, [1.0] * 64)
        assert estimate.half_width is not None
        covered += abs(estimate.value - 1) <= estimate.half_width
        num_grouped += estimate.dof < 63
    assert covered / runs > 0.92
    assert num_grouped / runs < 0.1


def test_few_steps_are_not_grouped() -> None:
    assert correlated_ratio_of_sums([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], [1.0] * 6).dof == 5


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=60))
def test_grouping_leaves_the_ratio_as_it_is(values: list[float]) -> None:
    pixels = [float(i + 1) for i in range(len(values))]
    assert correlated_ratio_of_sums(values, pixels).value == pytest.approx(ratio_of_sums(values, pixels).value)


def test_a_planted_outlier_is_found_and_nothing_else() -> None:
    values = [1.0, 1.02, 0.98, 1.01, 0.99, 3.0, 1.0, 1.02]
    assert find_outliers(values) == (False,) * 5 + (True,) + (False,) * 2
    assert find_outliers([1.0, 1.02, 0.98, 1.01, 0.2, 1.0])[4], "far too short is far too"


def test_what_lies_within_a_tenth_of_the_median_is_no_outlier_however_still_the_rest() -> None:
    assert not any(find_outliers([1.0] * 10 + [1.09]))
    assert find_outliers([1.0] * 10 + [1.11])[-1]


def test_a_handful_of_values_has_no_outliers() -> None:
    assert find_outliers([1.0, 1.0, 1.0, 100.0]) == (False,) * 4
    assert find_outliers([]) == ()


def test_the_error_of_repeated_observations_is_that_within_kinds() -> None:
    # Residuals of 0.1 each with two degrees of freedom left: variance 0.02, of the sum 0.08, over the sum of 6.
    estimate = repeated_ratio_of_sums([1.1, 2.9, 0.9, 3.1], [1.0, 2.0, 1.0, 2.0], kinds=["a", "b", "a", "b"])
    assert estimate.value == pytest.approx(8 / 6)
    assert estimate.se == pytest.approx(math.sqrt(0.08) / 6)
    assert estimate.half_width == pytest.approx(4.303 * math.sqrt(0.08) / 6, rel=1e-3)
    assert estimate.dof == 2


def test_observations_of_one_kind_are_draws_as_before() -> None:
    values = [1.0, 1.2, 0.9, 1.1, 1.05]
    plain = correlated_ratio_of_sums(values, [1.0] * 5)
    repeated = repeated_ratio_of_sums(values, [1.0] * 5, kinds=[0] * 5)
    assert repeated.half_width == pytest.approx(plain.half_width)
    assert repeated.dof == plain.dof


def test_kinds_that_are_seen_once_tell_no_error() -> None:
    estimate = repeated_ratio_of_sums([1.0, 5.0], [1.0, 2.0], kinds=["a", "b"])
    assert (estimate.value, estimate.se, estimate.half_width) == (2.0, None, None)


def test_a_difference_is_as_uncertain_as_both_of_its_numbers() -> None:
    one, other = Estimate(value=5.0, se=0.3, dof=4), Estimate(value=3.0, se=0.4, dof=4)
    difference = one.less(other)
    assert difference.value == 2.0
    assert difference.se == pytest.approx(0.5)
    assert 4 < difference.dof < 8
    assert one.less(Estimate(value=3.0)).se is None
