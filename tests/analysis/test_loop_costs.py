from __future__ import annotations

import math

import numpy as np
import pytest

from vnbench.analysis.trials.loop_costs import LoopCost, break_even_px, interval_of_median, loop_cost, on_any_canvas


def cost_of(own_s: float, padded_pixels: float, *, added_s: float = 1e-3, num_pairs: int = 7) -> LoopCost:
    cost = loop_cost([(own_s, own_s + added_s)] * num_pairs, padded_pixels=padded_pixels)
    assert cost is not None
    return cost


def test_a_cost_is_the_median_of_the_differences_so_that_a_burst_changes_nothing() -> None:
    pairs = [(1.0, 1.0 + added) for added in (0.01, 0.02, 0.03, 0.04, 0.05)]
    assert loop_cost([*pairs, (1.0, 60.0), (60.0, 1.0)], padded_pixels=1.0) is not None
    cost = loop_cost([*pairs, (1.0, 60.0), (60.0, 1.0)], padded_pixels=1.0)
    assert cost is not None
    assert cost.added_s == pytest.approx(0.03)
    assert cost.own_s == 1.0
    assert loop_cost([], padded_pixels=1.0) is None


@pytest.mark.parametrize(("num_values", "expected"), [(5, None), (6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (30, (9, 20))])
def test_the_interval_of_a_median_lies_between_values_by_their_order(
    num_values: int, expected: tuple[int, int] | None
) -> None:
    assert interval_of_median([float(number) for number in range(num_values)]) == expected


def test_nineteen_of_twenty_intervals_hold_the_median_of_a_heavy_tailed_distribution() -> None:
    draws_RN = np.sort(np.random.default_rng(0).standard_cauchy((4000, 20)), axis=1)
    intervals = [interval_of_median(draws.tolist()) for draws in draws_RN]
    held = [ends[0] <= 0 <= ends[1] for ends in intervals if ends is not None]
    assert len(held) == 4000
    assert 0.95 <= np.mean(held) <= 0.97


def test_the_border_lies_where_the_cost_is_one_percent_of_a_step() -> None:
    costs = [cost_of(0.05, 100_000), cost_of(0.15, 300_000)]
    assert break_even_px(costs, 1e-3) == pytest.approx(200_000)
    assert break_even_px(costs, 1e-4) == 0
    assert break_even_px(costs, 1e-2) == math.inf


def test_all_canvases_together_have_the_pairs_of_each() -> None:
    whole = on_any_canvas([cost_of(0.05, 1.0, added_s=0.001), cost_of(0.15, 3.0, added_s=0.003, num_pairs=8)])
    assert whole is not None
    assert whole.num_pairs == 15
    assert whole.added_s == pytest.approx(0.003)
    assert on_any_canvas([]) is None
