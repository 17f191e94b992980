from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import record_factory as factory
from numpy.typing import NDArray

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import ALL_ROWS
from vnbench.analysis.comparison.sequential import (
    MEAN_ERROR,
    MIN_BLOCKS,
    PASS_ERROR,
    ROWS_ERROR,
    PairedTimes,
    margin,
    time_rows,
)

TOLERANCE = 0.015
NOISE = 0.034
"""Relative standard deviation between processes of one revision on a shared machine."""


def bayes_factor(t: float, *, num_pairs: int) -> float:
    """Return the Bayes factor of Rouder et al. (2009) with a normal prior of variance 1 on the effect size."""
    freedom, a = num_pairs - 1, 1 + num_pairs
    ratio = (1 + t**2 / (a * freedom)) / (1 + t**2 / freedom)
    return float(a**-0.5 * ratio ** (-(freedom + 1) / 2))


@pytest.mark.parametrize("num_pairs", [5, 8, 20, 1000])
@pytest.mark.parametrize("error", [0.1, 0.01])
def test_at_the_margin_the_bayes_factor_is_one_over_the_error(num_pairs: int, error: float) -> None:
    half_width = margin(num_pairs, 2.0, error=error)
    if math.isfinite(half_width):
        t = half_width * math.sqrt(num_pairs) / 2.0
        assert bayes_factor(t, num_pairs=num_pairs) == pytest.approx(1 / error)


def test_known_values_of_the_margin() -> None:
    # a = 10, 0.1: K = (sqrt(10) / 0.1)^(1/4.5) = 2.154; t^2 = 8 * 1.154 / (1 - 0.2154) = 11.77.
    assert margin(9, 3.0, error=0.1) == pytest.approx(math.sqrt(8 * 1.15443 / (1 - 0.215443)), rel=1e-4)
    assert margin(1, 1.0, error=0.1) == math.inf
    assert margin(3, 1.0, error=0.01) == math.inf
    assert margin(10, 0.0, error=0.01) == 0.0


def test_the_margin_falls_with_pairs_and_grows_with_certainty() -> None:
    widths = [margin(number, 1.0, error=0.05) for number in range(4, 200)]
    assert widths == sorted(widths, reverse=True)
    assert margin(20, 1.0, error=0.01) > margin(20, 1.0, error=0.1)


def pairs_of(logs_NR: NDArray[np.float64]) -> list[PairedTimes]:
    spec = factory.compute_spec()
    return [
        PairedTimes(
            identity=f"row {row}",
            candidate_spec_id=f"row {row}",
            spec=spec,
            baseline_s=(1.0,) * len(logs_NR),
            candidate_s=tuple(np.exp(logs_NR[:, row]).tolist()),
        )
        for row in range(logs_NR.shape[1])
    ]


def test_a_row_holds_what_the_table_shows() -> None:
    logs_NR = np.log([[1.02, 1.04], [1.02, 1.04], [1.03, 1.04], [1.03, 1.05], [1.02, 1.05]] * 2)
    mean, first, second = time_rows(pairs_of(logs_NR), tolerance=TOLERANCE)
    assert (mean.spec_id, first.spec_id, second.spec_id) == (ALL_ROWS, "row 0", "row 1")
    assert mean.ratio == pytest.approx(math.exp(logs_NR.mean()))
    assert (first.baseline, mean.num_processes, mean.verdict) == (pytest.approx(1.0), (10, 10), "worse")
    assert mean.interval is not None
    half_width = margin(10, logs_NR.mean(axis=1).std(ddof=1), error=2 * MEAN_ERROR)
    assert mean.interval == pytest.approx((mean.ratio * math.exp(-half_width), mean.ratio * math.exp(half_width)))
    assert mean.smallest_detectable is not None
    assert mean.smallest_detectable >= TOLERANCE


def test_one_row_needs_no_mean_and_has_the_whole_error_rate() -> None:
    logs_NR = np.random.default_rng(0).normal(0, 0.01, (8, 1))
    (row,) = time_rows(pairs_of(logs_NR), tolerance=TOLERANCE)
    half_width = margin(8, logs_NR.std(ddof=1), error=2 * (MEAN_ERROR + ROWS_ERROR))
    assert row.ratio is not None
    assert row.interval is not None
    assert row.interval[1] / row.ratio == pytest.approx(math.exp(half_width))
    assert time_rows([], tolerance=TOLERANCE) == ()


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ((0.05,) * 8, "worse"),
        ((-0.05,) * 8, "better"),
        ((0.0,) * 8, "same"),
        ((0.05,) * (MIN_BLOCKS - 1), "ambiguous"),
        ((0.3, -0.3) * 4, "ambiguous"),
    ],
)
def test_a_verdict_needs_blocks_and_an_effect(changes: Sequence[float], verdict: str) -> None:
    logs_NR = np.array([changes, changes]).T + np.random.default_rng(0).normal(0, 1e-4, (len(changes), 2))
    assert {row.verdict for row in time_rows(pairs_of(logs_NR), tolerance=TOLERANCE)} == {verdict}


def test_a_row_that_looks_slower_than_chance_explains_is_named_before_it_is_worse() -> None:
    # In six blocks the margin of a row of two is infinite at the error rate of alarms, and not at that of a pass.
    logs_NR = np.array([[0.0, 0.08 + 0.02 * (-1) ** block] for block in range(6)])
    assert [row.doubt for row in time_rows(pairs_of(logs_NR), tolerance=TOLERANCE)][1:] == [None, "slower"]


def test_a_trial_that_another_program_slowed_does_not_hide_what_the_others_show() -> None:
    logs_NR = np.random.default_rng(1).normal(0.05, 0.01, (10, 4))
    logs_NR[3, 2], logs_NR[6, 0] = 0.9, -0.7
    mean, *_ = time_rows(pairs_of(logs_NR), tolerance=TOLERANCE)
    assert mean.verdict == "worse"
    assert mean.ratio == pytest.approx(math.exp(0.05), rel=0.01)


def outcomes(
    rng: np.random.Generator, *, slowdown: float, noise: str, correlation: float, runs: int, blocks: int, rows: int = 9
) -> list[tuple[str, int]]:
    """Return what each run ends with, and after how many blocks, if one looks after every block."""
    shape = (runs, blocks, rows)
    own_NBR = rng.standard_t(3, shape) / math.sqrt(3) if noise == "heavy" else rng.standard_normal(shape)
    if noise == "bursts":
        own_NBR += 10 * rng.standard_normal(shape) * (rng.random(shape) < 0.1)
    shared_NB1 = rng.standard_normal((runs, blocks, 1))
    scale = NOISE * math.sqrt(2)
    logs_NBR = math.log1p(slowdown) + scale * (
        math.sqrt(1 - correlation) * own_NBR + math.sqrt(correlation) * shared_NB1
    )
    found = []
    for logs_BR in logs_NBR:
        ended = ("undecided", blocks)
        for number in range(MIN_BLOCKS, blocks + 1):
            rows_now = time_rows(pairs_of(logs_BR[:number]), tolerance=TOLERANCE)
            if any(row.verdict == "worse" for row in rows_now):
                ended = ("regression", number)
                break
            if Comparison(rows=rows_now).outcome == "pass":
                ended = ("pass", number)
                break
        found.append(ended)
    return found


@pytest.mark.parametrize(
    ("noise", "correlation"),
    [("normal", 0.0), ("heavy", 0.0), ("bursts", 0.0), ("normal", 0.3)],
    ids=["normal", "heavy", "bursts", "correlated"],
)
def test_unchanged_code_raises_an_alarm_in_at_most_one_run_of_a_hundred_however_often_one_looks(
    noise: str, correlation: float
) -> None:
    runs = outcomes(np.random.default_rng(30), slowdown=0.0, noise=noise, correlation=correlation, runs=300, blocks=40)
    alarms = sum(outcome == "regression" for outcome, _ in runs)
    # At most 1 % are promised: of 300 runs, 3 are expected then, and more than 7 have a probability below 1 %.
    assert alarms <= 7


def test_a_slowdown_of_three_percent_is_found_within_fifteen_blocks() -> None:
    runs = outcomes(np.random.default_rng(31), slowdown=0.03, noise="normal", correlation=0.0, runs=200, blocks=15)
    assert sum(outcome == "regression" for outcome, _ in runs) >= 0.95 * len(runs)


def test_bursts_that_slow_one_trial_in_ten_leave_it_found_within_thirty_blocks() -> None:
    runs = outcomes(np.random.default_rng(34), slowdown=0.03, noise="bursts", correlation=0.0, runs=100, blocks=30)
    assert sum(outcome == "regression" for outcome, _ in runs) >= 0.95 * len(runs)


def test_unchanged_code_passes_within_twenty_five_blocks() -> None:
    runs = outcomes(np.random.default_rng(32), slowdown=0.0, noise="normal", correlation=0.0, runs=200, blocks=25)
    assert sum(outcome == "pass" for outcome, _ in runs) >= 0.95 * len(runs)


def test_a_slowdown_of_twice_the_tolerance_hardly_ever_passes() -> None:
    runs = outcomes(np.random.default_rng(33), slowdown=0.03, noise="normal", correlation=0.3, runs=200, blocks=60)
    assert sum(outcome == "pass" for outcome, _ in runs) <= PASS_ERROR * len(runs)
