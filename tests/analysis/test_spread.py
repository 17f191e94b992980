from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from vnbench.analysis.models.run_time import RunTime
from vnbench.analysis.models.step_fit import ForecastParts, StepFit, fit_steps
from vnbench.analysis.models.step_model import StepPoint
from vnbench.analysis.planning.spread import NUM_DRAWS, PARTS, Interruptions, finish_of, ranks_of, shares_of
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.process_spread import spread_of

NONE = Interruptions()


def run_of(*, coefficients: float = 0.0, sizes: float = 0.0, processes: float = 0.0, **changes: object) -> RunTime:
    parts = ForecastParts(
        total_s=100.0,
        coefficients=coefficients,
        sizes=sizes,
        processes=processes,
        dof=math.inf,
        processes_dof=math.inf,
    )
    run = RunTime(
        num_epochs=10,
        num_steps=50,
        computing=parts,
        saved_s=0.0,
        loading=None,
        has_workers=True,
        validation_s=0.0,
        new_shapes_s=0.0,
        start_up_s=0.0,
        extrapolated_ratio=0.0,
    )
    return dataclasses.replace(run, **changes)


def test_a_run_without_uncertainty_finishes_when_it_does() -> None:
    run = run_of(validation_s=5.0, new_shapes_s=3.0, start_up_s=7.0)
    finish = finish_of(run, NONE, interval_s=None, window_s=1060.0, seed=0)
    assert finish.p10 == finish.p50 == finish.p90 == pytest.approx(10 * 105 + 10)
    assert finish.probability == 1.0
    assert shares_of(run, NONE, interval_s=None, seed=0) == {}


def test_percentiles_are_those_of_the_normal_distribution() -> None:
    finish = finish_of(run_of(processes=0.05), NONE, interval_s=None, window_s=1000.0, seed=0)
    assert finish.p50 == pytest.approx(1000, rel=0.002)
    assert finish.p90 == pytest.approx(1000 * (1 + 1.2816 * 0.05), rel=0.002)
    assert finish.probability == pytest.approx(0.5, abs=0.01)


def test_percentiles_of_several_parts_are_known_to_a_thousandth_at_the_default_draws() -> None:
    run = run_of(coefficients=0.02, sizes=0.01, processes=0.1)
    deviation = math.sqrt(0.02**2 + 0.01**2 + 0.1**2)
    for seed in range(20):
        finish = finish_of(run, NONE, interval_s=None, window_s=None, seed=seed)
        assert finish.p50 == pytest.approx(1000, rel=0.001)
        assert finish.p90 == pytest.approx(1000 * (1 + 1.28155 * deviation), rel=0.001)


def test_every_part_draws_each_rank_once_and_no_two_parts_go_together() -> None:
    ranks = ranks_of(3)
    for one in ranks.values():
        assert sorted(one.tolist()) == list(range(NUM_DRAWS))
    correlations = np.corrcoef(np.stack(list(ranks.values())))
    assert np.abs(correlations - np.eye(len(ranks))).max() < 0.01
    assert any((ranks_of(4)[part] != one).any() for part, one in ranks.items())


def test_the_share_of_a_part_is_that_of_its_variance() -> None:
    run = run_of(coefficients=0.04, processes=0.03)
    shares = shares_of(run, NONE, interval_s=None, seed=0)
    assert shares["coefficients"] == pytest.approx(16 / 25, abs=0.02)
    assert shares["processes"] == pytest.approx(9 / 25, abs=0.02)
    assert shares["interruptions"] == 0


def test_the_longer_of_loading_and_computing_sets_the_time_beside_workers_and_their_sum_without() -> None:
    beside = run_of(loading=Estimate(value=150.0, se=0.0))
    alone = run_of(loading=Estimate(value=150.0, se=0.0), has_workers=False)
    assert beside.epoch.total_s == 150.0
    assert beside.epoch.bracket_s == (150.0, 250.0)
    assert alone.epoch.total_s == 250.0
    assert finish_of(beside, NONE, interval_s=None, window_s=None, seed=0).p50 == pytest.approx(1500)
    assert finish_of(alone, NONE, interval_s=None, window_s=None, seed=0).p50 == pytest.approx(2500)


T_2_OF_90_PER_CENT = 1.8856
"""Student's t at 0.9 with two degrees of freedom, from its closed form 0.8 sqrt(2 / (1 - 0.8^2))."""


def test_loading_is_as_uncertain_as_its_standard_error_and_its_degrees_of_freedom_say() -> None:
    few, plenty = (run_of(loading=Estimate(value=150.0, se=3.0, dof=dof)) for dof in (2, math.inf))
    p90s = [finish_of(run, NONE, interval_s=None, window_s=None, seed=0).p90 for run in (few, plenty)]
    assert p90s == pytest.approx([1500 * (1 + factor * 0.02) for factor in (T_2_OF_90_PER_CENT, 1.28155)], rel=1e-3)


def test_loading_whose_error_nothing_tells_is_no_certainty() -> None:
    run = run_of(loading=Estimate(value=150.0))
    finish = finish_of(run, NONE, interval_s=None, window_s=1500.0, seed=0)
    assert finish.p90 / finish.p10 > 1.2
    assert finish.probability == pytest.approx(0.5, abs=0.01)
    assert shares_of(run, NONE, interval_s=None, seed=0)["loading"] == 1.0


def test_interruptions_take_their_part_with_snapshots_and_far_more_without() -> None:
    often = Interruptions(mtbi_s=500.0, restart_s=10.0, snapshot_s=1.0)
    run = run_of()
    with_them = finish_of(run, often, interval_s=30.0, window_s=1300.0, seed=0)
    without = finish_of(run, often, interval_s=None, window_s=1300.0, seed=0)
    assert 1000 < with_them.p50 < 1200 < without.p50
    assert with_them.probability is not None
    assert without.probability is not None
    assert with_them.probability > 0.95 > without.probability
    assert shares_of(run, often, interval_s=30.0, seed=0)["interruptions"] == 1.0


def test_a_run_that_mostly_never_finishes_says_so() -> None:
    hopeless = Interruptions(mtbi_s=20.0, restart_s=10.0)
    finish = finish_of(run_of(), hopeless, interval_s=None, window_s=1e6, seed=0)
    assert math.isinf(finish.p50)
    assert math.isinf(finish.mean)
    assert finish.probability == 0.0


SIZES = np.linspace(1e6, 8e6, 9)


def measured_fit(random: np.random.Generator, *, num_processes: int) -> StepFit:
    """Return the fit of processes that each have 3 % of speed of their own, with 2 % for each size."""
    true_s = (0.01 + 1e-8 * SIZES) * np.exp(random.normal(0, 0.02, len(SIZES)))
    speeds = np.exp(random.normal(0, 0.03, num_processes))
    points = [
        StepPoint(padded_pixels=float(size), step_time_s=float(seconds * speed), process=number)
        for number, speed in enumerate(speeds)
        for size, seconds in zip(SIZES, true_s, strict=True)
    ]
    figures = [[[Estimate(value=float(speed * true)) for speed in speeds]] for true in true_s[:1]]
    return fit_steps(points, spread=spread_of(figures), form="linear")


@pytest.mark.parametrize("num_processes", [3, 6])
def test_a_stated_probability_of_nine_in_ten_comes_true_in_nine_of_ten(num_processes: int) -> None:
    """Other sizes than those that were timed, in another process: each run is late or not against its own p90."""
    random = np.random.default_rng(5)
    times, inside = 400, 0
    for trial in range(times):
        fit = measured_fit(random, num_processes=num_processes)
        passes = random.uniform(1e6, 8e6, 200)
        kernels = np.exp(random.normal(0, 0.02, len(passes)))
        truth_s = float(((0.01 + 1e-8 * passes) * kernels).sum() * np.exp(random.normal(0, 0.03)))
        run = run_of(num_epochs=1, computing=fit.forecast_parts(np.sort(passes), np.ones(len(passes), dtype=int)))
        inside += truth_s <= finish_of(run, NONE, interval_s=None, window_s=None, seed=trial).p90
    assert 0.85 <= inside / times <= 0.95


def test_nine_draws_of_ten_lie_in_the_bracket_of_a_forecast_and_half_below_its_central_value() -> None:
    run = run_of(bracket=(0.5, 3.0))
    finish = finish_of(run, NONE, interval_s=None, window_s=3000.0, seed=0)
    assert finish.p50 == pytest.approx(1000, rel=0.001)
    assert finish.p10 == pytest.approx(1000 * (1 - 0.5 * 8 / 9), rel=0.002)
    assert finish.p90 == pytest.approx(1000 * (1 + 2 * 8 / 9), rel=0.002)
    assert finish.probability == pytest.approx(0.95, abs=0.001)
    assert shares_of(run, NONE, interval_s=None, seed=0) == {part: float(part == "forecast") for part in PARTS}
