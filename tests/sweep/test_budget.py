from __future__ import annotations

import math

import pytest
from record_factory import training_spec

from vnbench.errors import BudgetError
from vnbench.sweep.budget import ENDING_S, GRACE_SHARE, Budget, SweepEstimate, without_time


def at(now: float, total_s: float | None = 100.0) -> Budget:
    return Budget(total_s=total_s, start=1000.0, clock=lambda: 1000.0 + now)


def test_trials_end_before_the_table_and_the_plots() -> None:
    assert at(0.0).deadline == 1100.0 - ENDING_S
    assert at(30.0).elapsed_s() == 30.0


def test_a_trial_is_ended_a_little_after_the_budget_whatever_it_is_at() -> None:
    assert at(40.0).longest_s() == pytest.approx(60.0 - ENDING_S + 100 * GRACE_SHARE)
    assert at(500.0).longest_s() > 0, "a process needs some time even then"


def test_what_is_left_for_trials_ends_at_the_deadline() -> None:
    assert at(40.0).left_s() == 60.0 - ENDING_S
    assert at(99.0).left_s() == 0.0
    assert at(5.0, None).left_s() == math.inf


def test_a_trial_that_finds_no_time_leaves_it_to_a_shorter_one() -> None:
    one, two, four = (training_spec(batch_size=size) for size in (1, 2, 4))
    late = without_time([four, one, four, two, one], takes_s=lambda spec: float(spec.batch_size), left_s=7.5)
    assert list(late) == [four, one]


def test_without_a_budget_nothing_ends() -> None:
    assert at(5.0, None).deadline is None
    assert at(5.0, None).longest_s() == math.inf
    at(5.0, None).check(SweepEstimate(total_s=1e9, least_s=1e9))


def test_a_budget_too_small_for_one_figure_is_refused_with_the_least_that_is_not() -> None:
    at(0.0).check(SweepEstimate(total_s=1000.0, least_s=100.0))
    with pytest.raises(BudgetError, match=r"--time-budget 1 min 40 s is too small .* after about 2 min") as raised:
        at(0.0).check(SweepEstimate(total_s=1000.0, least_s=120.0))
    assert raised.value.exit_code == 3
