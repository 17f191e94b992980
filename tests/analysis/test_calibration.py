from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from vnbench.analysis.comparison import calibration
from vnbench.analysis.comparison.calibration import calibrate, is_alarm, processes_needed
from vnbench.analysis.comparison.ratios import SweepNoise, compare_times
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of

NUM_ROWS = 50


@pytest.fixture(autouse=True)
def _fewer_relabellings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "NUM_RELABELLINGS", 100)


def sweep(
    random: np.random.Generator,
    *,
    processes: int,
    spread: float,
    sweep_spread: float = 0.0,
    slow: tuple[float, ...] = (),
) -> Side:
    """Return times of NUM_ROWS configurations, the first ones slower by the factors given."""
    offset = random.normal(0, sweep_spread)
    factors = np.ones(NUM_ROWS)
    factors[: len(slow)] = slow
    logs = np.log(factors)[:, np.newaxis] + offset + random.normal(0, spread, size=(NUM_ROWS, processes))
    return Side(
        keys={},
        configurations={
            f"row {i}": Configuration(name=f"row {i}", figures={"time": figure_of(np.exp(row).tolist(), metric="time")})
            for i, row in enumerate(logs)
        },
    )


def pairs_of(before: Side, after: Side) -> list[tuple[calibration.SideFigure, calibration.SideFigure]]:
    return [
        (before.configurations[name].figures["time"], after.configurations[name].figures["time"])
        for name in before.configurations
    ]


def test_the_spreads_of_a_machine_are_found() -> None:
    random = np.random.default_rng(0)
    sweeps = [sweep(random, processes=6, spread=0.02, sweep_spread=0.01) for _ in range(8)]
    found = calibrate(sweeps, detect=0.03, tolerances=Tolerances(), seed=0)
    assert found is not None
    assert found.process_spread == pytest.approx(0.02, rel=0.1)
    assert found.sweep_spread == pytest.approx(0.01, rel=0.6)
    assert found.num_rows == NUM_ROWS
    assert found.num_false_alarms / found.num_comparisons <= 0.01
    assert found.num_sweep_alarms > 0, "sweeps that lie apart raise false alarms where nobody says that they do"


def test_the_same_sweeps_and_seed_give_the_same_answer() -> None:
    sweeps = [sweep(np.random.default_rng(1), processes=4, spread=0.05)]
    answers = [calibrate(sweeps, detect=0.03, tolerances=Tolerances(), seed=3) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0] is not None
    assert answers[0].sweep_spread is None


def test_three_processes_cannot_be_dealt_to_two_sides() -> None:
    assert (
        calibrate(
            [sweep(np.random.default_rng(1), processes=3, spread=0.05)], detect=0.03, tolerances=Tolerances(), seed=0
        )
        is None
    )


def test_a_slowdown_of_one_row_is_found_with_the_processes_that_the_calibration_names() -> None:
    random = np.random.default_rng(7)
    found = calibrate([sweep(random, processes=10, spread=0.02)], detect=0.03, tolerances=Tolerances(), seed=0)
    assert found is not None
    assert found.processes_noisiest_row is not None
    assert found.processes_one_row is not None
    assert found.processes_one_row <= found.processes_noisiest_row
    count, times = found.processes_noisiest_row, 60
    seen = sum(
        is_alarm(
            pairs_of(
                sweep(random, processes=count, spread=0.02), sweep(random, processes=count, spread=0.02, slow=(1.03,))
            ),
            tolerance=0.015,
        )
        for _ in range(times)
    )
    assert seen >= 0.95 * times


def test_more_processes_are_needed_for_less_and_none_are_enough_for_what_sweeps_hide() -> None:
    def needed(**changes: float) -> int | None:
        values = {"process_spread": 0.02, "detect": 0.03, "tolerance": 0.015, "num_rows": 50} | changes
        return processes_needed(values.pop("process_spread"), **values)  # type: ignore[arg-type]

    few, many = needed(detect=0.1), needed(detect=0.03)
    assert few is not None
    assert many is not None
    assert few < many
    all_rows = needed(num_averaged=50)
    assert all_rows is not None
    assert all_rows < few
    assert needed(sweep_spread=0.02) is None
    assert needed(detect=0.01) is None, "below its tolerance nothing is worse"


def test_a_sweep_spread_widens_every_interval() -> None:
    random = np.random.default_rng(2)
    before, after = (
        sweep(random, processes=5, spread=0.001, slow=(1.03,) * NUM_ROWS if slow else ()) for slow in (0, 1)
    )
    assert is_alarm(pairs_of(before, after), tolerance=0.015)
    compared = compare_times(pairs_of(before, after), noise=SweepNoise(told=0.02))
    assert compared.mean is not None
    assert compared.mean.log.se == pytest.approx(math.sqrt(2) * 0.02, rel=0.01)
    assert all(row.half_width is not None and row.half_width > row.log.value for row in (*compared.rows, compared.mean))


def test_the_interval_of_the_false_alarms_is_that_of_clopper_and_pearson() -> None:
    sweeps = [sweep(np.random.default_rng(1), processes=4, spread=0.05)]
    found = calibrate(sweeps, detect=0.03, tolerances=Tolerances(), seed=0)
    assert found is not None
    # With none of n the upper end is 1 - 0.025^(1 / n); with all of them the lower one is 0.025^(1 / n).
    none = dataclasses.replace(found, num_false_alarms=0, num_comparisons=100)
    assert none.false_alarm_interval == (0.0, pytest.approx(1 - 0.025**0.01))
    every = dataclasses.replace(found, num_false_alarms=100, num_comparisons=100)
    assert every.false_alarm_interval == (pytest.approx(0.025**0.01), 1.0)
