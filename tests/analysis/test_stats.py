import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnbench.analysis.stats import mean, ratio_of_sums, t_quantile

T_2 = 4.302652729911275
"""Student's t at 0.975 with two degrees of freedom, from its closed form 0.95 sqrt(2 / (1 - 0.95^2))."""


def test_t_quantile_agrees_with_its_closed_form_at_two_degrees_of_freedom() -> None:
    assert pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2))) == T_2
    assert t_quantile(2) == pytest.approx(T_2)


def test_mean_has_the_hand_worked_half_width() -> None:
    # mean 2, s^2 = (1 + 0 + 1) / 2 = 1, standard error 1 / sqrt(3)
    estimate = mean([1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(3))
    assert estimate.half_width == pytest.approx(T_2 / math.sqrt(3))
    assert estimate.num_observations == 3


def test_ratio_has_the_hand_worked_half_width() -> None:
    # R = 12 / 6 = 2; residuals 3 - 2, 3 - 4, 6 - 6 = 1, -1, 0; mean(x) = 2; se = sqrt(2 / (3 * 2)) / 2
    estimate = ratio_of_sums([3.0, 3.0, 6.0], [1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.standard_error == pytest.approx(math.sqrt(1 / 3) / 2)
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
    assert estimate.standard_error is None
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
