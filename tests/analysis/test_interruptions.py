from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import ndtri

from vnbench.analysis.planning.interruptions import (
    best_interval_of_count_s,
    best_interval_s,
    daly_interval_s,
    expected_time_s,
    expected_time_without_snapshots_s,
    rounded_interval_s,
    simulate_count_s,
    simulate_s,
    sum_of_uniforms,
    young_interval_s,
)
from vnbench.analysis.planning.spread import NUM_DRAWS

MINUTE, HOUR = 60.0, 3600.0

EVEN = (np.arange(20_000) + 0.5) / 20_000


@pytest.mark.parametrize(("mtbi_s", "minutes"), [(24 * HOUR, 117), (6 * HOUR, 57), (15 * MINUTE, 9.1)])
def test_the_intervals_are_those_of_dalys_examples(mtbi_s: float, minutes: float) -> None:
    """Daly (2006), captions of figures 2 to 4: a snapshot takes 5 minutes."""
    for interval_s in (
        daly_interval_s(snapshot_s=5 * MINUTE, mtbi_s=mtbi_s),
        best_interval_s(snapshot_s=5 * MINUTE, mtbi_s=mtbi_s),
    ):
        assert interval_s / MINUTE == pytest.approx(minutes, rel=0.01)


def test_youngs_interval_is_the_first_order_of_it() -> None:
    assert young_interval_s(snapshot_s=2.0, mtbi_s=100.0) == 20.0
    assert daly_interval_s(snapshot_s=1e-6, mtbi_s=1e6) == pytest.approx(young_interval_s(snapshot_s=1e-6, mtbi_s=1e6))
    assert daly_interval_s(snapshot_s=300.0, mtbi_s=100.0) == 100.0


@pytest.mark.parametrize("snapshot_s", [1.0, 30.0, 600.0])
def test_the_best_interval_minimises_the_expected_time(snapshot_s: float) -> None:
    def time_s(interval_s: float) -> float:
        return expected_time_s(
            work_s=8 * HOUR, interval_s=interval_s, snapshot_s=snapshot_s, restart_s=300.0, mtbi_s=2 * HOUR
        )

    found = minimize_scalar(time_s, bounds=(1.0, 8 * HOUR), method="bounded", options={"xatol": 1e-3})
    best_s = best_interval_s(snapshot_s=snapshot_s, mtbi_s=2 * HOUR)
    assert best_s == pytest.approx(found.x, rel=1e-3)
    assert time_s(best_s) <= found.fun * (1 + 1e-9)


@pytest.mark.parametrize(
    ("mtbi_min", "interval_min", "expected_min"), [(120, 10.6, 549.0), (480, 21.6, 507.9), (2400, 48.7, 491.0)]
)
def test_the_simulation_agrees_with_dalys_expected_time(
    mtbi_min: float, interval_min: float, expected_min: float
) -> None:
    """A job of 8 h, half a minute per snapshot, five per restart."""
    arguments = {"snapshot_s": 0.5 * MINUTE, "restart_s": 5 * MINUTE, "mtbi_s": mtbi_min * MINUTE}
    expected_s = expected_time_s(work_s=8 * HOUR, interval_s=interval_min * MINUTE, **arguments)
    assert expected_s / MINUTE == pytest.approx(expected_min, abs=0.1)
    finish_N = simulate_s(
        np.full(20_000, 8 * HOUR), interval_s=interval_min * MINUTE, random=np.random.default_rng(0), **arguments
    )
    # The closed form takes a snapshot after the last interval as well.
    assert finish_N.mean() / MINUTE == pytest.approx(expected_min, rel=0.003)


def test_without_snapshots_the_simulation_agrees_as_well() -> None:
    expected_s = expected_time_without_snapshots_s(work_s=2 * HOUR, restart_s=60.0, mtbi_s=3 * HOUR)
    finish_N = simulate_s(
        np.full(40_000, 2 * HOUR),
        interval_s=None,
        snapshot_s=0.0,
        restart_s=60.0,
        mtbi_s=3 * HOUR,
        random=np.random.default_rng(1),
    )
    assert finish_N.mean() == pytest.approx(expected_s, rel=0.02)
    assert expected_time_without_snapshots_s(work_s=1e9, restart_s=1.0, mtbi_s=1.0) == math.inf


def test_a_run_that_never_finishes_is_given_up() -> None:
    finish_N = simulate_s(
        np.full(10, 100 * HOUR),
        interval_s=None,
        snapshot_s=0.0,
        restart_s=60.0,
        mtbi_s=HOUR,
        random=np.random.default_rng(2),
        give_up_s=1000 * HOUR,
    )
    assert np.isinf(finish_N).all()


def test_intervals_for_a_number_of_interruptions_are_those_worked_by_hand() -> None:
    """480 min of work, half a minute per snapshot, three interruptions: sqrt(480 x 0.5 x 2 / 3) = 12.65 min."""
    arguments = {"work_s": 480 * MINUTE, "snapshot_s": 0.5 * MINUTE, "num_interruptions": 3}
    mean_s = best_interval_of_count_s(**arguments, is_worst=False)
    worst_s = best_interval_of_count_s(**arguments, is_worst=True)
    assert mean_s / MINUTE == pytest.approx(12.649, abs=0.001)
    assert worst_s / MINUTE == pytest.approx(8.944, abs=0.001)
    assert mean_s == pytest.approx(young_interval_s(snapshot_s=0.5 * MINUTE, mtbi_s=160 * MINUTE))
    none = arguments | {"num_interruptions": 0}
    assert best_interval_of_count_s(**none, is_worst=False) == 480 * MINUTE


@pytest.mark.parametrize(("interval_min", "mean_min", "worst_min"), [(9.6, 535, 550), (24, 542, 579)])
def test_three_simulated_interruptions_take_what_each_loses_in_the_mean_and_at_most(
    interval_min: float, mean_min: float, worst_min: float
) -> None:
    arguments = {
        "interval_s": interval_min * MINUTE,
        "snapshot_s": 0.5 * MINUTE,
        "restart_s": 5 * MINUTE,
        "num_interruptions": 3,
    }
    finish_N = simulate_count_s(np.full(len(EVEN), 480 * MINUTE), probabilities_N=EVEN, **arguments)
    assert finish_N.mean() / MINUTE == pytest.approx(mean_min, abs=1.5)
    assert finish_N.max() / MINUTE <= worst_min + 1


def test_without_snapshots_an_interruption_loses_half_of_the_run_in_the_mean() -> None:
    finish_N = simulate_count_s(
        np.full(len(EVEN), 100.0),
        interval_s=None,
        snapshot_s=0.0,
        restart_s=1.0,
        num_interruptions=2,
        probabilities_N=EVEN,
    )
    assert finish_N.mean() == pytest.approx(100 + 2 * (50 + 1), rel=0.001)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 65, 1000])
def test_a_sum_of_uniform_numbers_has_the_quantiles_of_drawn_ones(count: int) -> None:
    drawn = np.random.default_rng(6).random((200_000 // count, count)).sum(axis=1)
    probabilities = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    error = 4 * math.sqrt(count / 12) * np.sqrt(probabilities * (1 - probabilities) / len(drawn)) / 0.1
    assert np.abs(sum_of_uniforms(probabilities, count) - np.quantile(drawn, probabilities)).max() < error.max()
    assert (sum_of_uniforms(np.array([1e-9, 1 - 1e-9]), count) >= 0).all()


def test_two_uniform_numbers_add_up_to_a_triangle() -> None:
    assert sum_of_uniforms(np.array([0.125, 0.5, 0.875]), 2).tolist() == pytest.approx([0.5, 1.0, 1.5], abs=1e-6)
    assert sum_of_uniforms(np.array([0.3]), 0).tolist() == [0.0]


def test_an_interval_is_a_whole_number_of_steps() -> None:
    assert rounded_interval_s(10.4, step_s=2.0, work_s=100.0) == 10.0
    assert rounded_interval_s(0.1, step_s=2.0, work_s=100.0) == 2.0
    assert rounded_interval_s(1000.0, step_s=2.0, work_s=100.0) == 100.0


def plainly_drawn_median_s(
    work_N: np.ndarray, *, interval_s: float, snapshot_s: float, restart_s: float, mtbi_s: float
) -> float:
    """Return the median finish of runs that are drawn one by one, interruption by interruption."""
    random = np.random.default_rng(1)
    left_N, finish_N, overhead_s = work_N.copy(), np.zeros(len(work_N)), 0.0
    while (left_N > 0).any():
        running = np.flatnonzero(left_N > 0)
        until_N = random.exponential(mtbi_s, len(running))
        needed_N = overhead_s + left_N[running] + snapshot_s * (np.ceil(left_N[running] / interval_s) - 1)
        saved_N = interval_s * np.floor(np.maximum(0, until_N - overhead_s) / (interval_s + snapshot_s))
        finish_N[running] += np.minimum(until_N, needed_N)
        left_N[running] = np.where(until_N >= needed_N, 0, left_N[running] - saved_N)
        overhead_s = restart_s
    return float(np.median(finish_N))


@pytest.mark.parametrize(("mtbi_min", "interval_min", "deviation"), [(60, 7, 0.1), (600, 150, 0.02), (600, 30, 0.1)])
def test_the_median_is_that_of_a_million_runs_to_two_thousandths(
    mtbi_min: float, interval_min: float, deviation: float
) -> None:
    costs = {
        "interval_s": interval_min * MINUTE,
        "snapshot_s": 2.0,
        "restart_s": 5 * MINUTE,
        "mtbi_s": mtbi_min * MINUTE,
    }

    def work_of(num_runs: int) -> np.ndarray:
        return 10 * HOUR * (1 + deviation * ndtri((np.arange(num_runs) + 0.5) / num_runs))

    expected_s = plainly_drawn_median_s(work_of(1_000_000), **costs)
    for seed in range(20):
        random = np.random.Generator(np.random.Philox(seed))
        finish_N = simulate_s(random.permutation(work_of(NUM_DRAWS)), random=random, **costs)
        assert np.median(finish_N) == pytest.approx(expected_s, rel=0.002)
