"""The noise between whole sweeps: found in a side's sweeps or a baseline's history, and held against slowdowns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from vnbench.analysis.comparison.compare import compare
from vnbench.analysis.comparison.rows import ALL_ROWS
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of_sweeps
from vnbench.analysis.comparison.sweep_spread import Level, spread_between_sweeps

NUM_ROWS, NUM_PROCESSES = 9, 10

Logs = Sequence[Sequence[Sequence[float]]]
"""Logarithms of times by sweep, row and process."""


def drawn(
    random: np.random.Generator, *, num_sweeps: int, sweep: float, single: float = 0.0, process: float = 0.01
) -> Logs:
    """Return times of equal sweeps with the given relative standard deviations."""
    shape = (num_sweeps, NUM_ROWS, NUM_PROCESSES)
    logs_SRP = random.normal(0, process, shape)
    logs_SRP += random.normal(0, sweep, (num_sweeps, 1, 1)) + random.normal(0, single, (num_sweeps, NUM_ROWS, 1))
    found: Logs = logs_SRP.tolist()
    return found


def level_of(logs: Logs, *, prefix: str = "") -> Level:
    return {
        f"{prefix}{number}": {
            str(row): (math.exp(sum(values) / len(values)), len(values)) for row, values in enumerate(rows)
        }
        for number, rows in enumerate(logs)
    }


def side_of_logs(logs: Logs, *, history: Logs = ()) -> Side:
    return Side(
        keys={},
        configurations={
            str(row): Configuration(
                name=str(row),
                figures={
                    "time": figure_of_sweeps([[math.exp(one) for one in rows[row]] for rows in logs], metric="time")
                },
            )
            for row in range(len(logs[0]))
        },
        levels=({**level_of(logs), **level_of(history, prefix="past ")},),
        num_sweeps=len(logs),
    )


def slower(logs: Logs, factor: float, *, rows: Sequence[int] = range(NUM_ROWS)) -> Logs:
    return [
        [[one + (math.log(factor) if row in rows else 0.0) for one in values] for row, values in enumerate(sweep)]
        for sweep in logs
    ]


def test_the_spread_between_sweeps_and_that_of_single_rows_are_told_apart() -> None:
    logs = drawn(np.random.default_rng(1), num_sweeps=60, sweep=0.02, single=0.01)
    found = spread_between_sweeps([level_of(logs)], process_variances={str(row): 0.01**2 for row in range(NUM_ROWS)})
    assert found.dof == 59
    assert found.mean == pytest.approx(0.02, rel=0.3)
    assert found.single == pytest.approx(0.01, rel=0.2)


def test_levels_are_not_compared_with_each_other() -> None:
    logs = drawn(np.random.default_rng(2), num_sweeps=6, sweep=0.001)
    levels = [level_of(logs[:3]), level_of(slower(logs[3:], 1.5))]
    found = spread_between_sweeps(levels, process_variances=dict.fromkeys(map(str, range(NUM_ROWS)), 0.01**2))
    assert found.dof == 4
    assert found.mean < 0.01
    assert found.single < 0.01


def test_one_sweep_a_side_shows_no_spread_and_calls_no_small_slowdown_a_regression() -> None:
    before, after = drawn(np.random.default_rng(3), num_sweeps=2, sweep=0.0)
    comparison = compare(side_of_logs([before]), side_of_logs(slower([after], 1.05)))
    assert comparison.sweeps is not None
    assert not comparison.sweeps.is_known
    assert comparison.outcome == "undecided"
    (mean,) = (row for row in comparison.rows if row.spec_id == ALL_ROWS)
    assert (mean.verdict, mean.doubt) == ("ambiguous", "sweeps")
    assert compare(side_of_logs([before]), side_of_logs(slower([after], 1.5))).outcome == "regression"
    assert compare(side_of_logs([before]), side_of_logs([after])).outcome == "pass"


def test_the_history_of_a_quiet_machine_makes_it_a_regression() -> None:
    logs = drawn(np.random.default_rng(4), num_sweeps=10, sweep=0.001)
    baseline = side_of_logs(logs[:1], history=logs[2:])
    comparison = compare(baseline, side_of_logs(slower(logs[1:2], 1.05)))
    assert comparison.outcome == "regression"
    assert compare(baseline, side_of_logs(logs[1:2])).outcome == "pass"


def test_that_of_a_restless_machine_does_not_and_leaves_it_undecided() -> None:
    logs = drawn(np.random.default_rng(5), num_sweeps=10, sweep=0.03)
    comparison = compare(side_of_logs(logs[:1], history=logs[2:]), side_of_logs(slower(logs[1:2], 1.05)))
    assert comparison.outcome == "undecided"


def test_several_sweeps_a_side_are_a_history_too() -> None:
    logs = drawn(np.random.default_rng(6), num_sweeps=8, sweep=0.001)
    baseline = side_of_logs(logs[:4])
    assert compare(baseline, side_of_logs(slower(logs[4:], 1.03))).outcome == "regression"
    assert compare(baseline, side_of_logs(logs[4:])).outcome == "pass"


def test_a_row_too_noisy_for_its_tolerance_does_not_hinder_a_pass_and_is_named() -> None:
    logs = drawn(np.random.default_rng(7), num_sweeps=2, sweep=0.0, process=0.03)
    comparison = compare(side_of_logs(logs[:1]), side_of_logs(logs[1:]), sweep_spread=0.0)
    assert comparison.outcome == "pass"
    ambiguous = [row for row in comparison.rows if row.verdict == "ambiguous"]
    assert ambiguous
    assert all(row.doubt in ("noise", "looks slower") for row in ambiguous)
    assert not any(map(comparison.is_hindrance, comparison.rows))


def test_a_single_row_that_is_slower_than_its_processes_explain_hinders_a_pass() -> None:
    before, after = drawn(np.random.default_rng(8), num_sweeps=2, sweep=0.0, process=0.002)
    comparison = compare(side_of_logs([before]), side_of_logs(slower([after], 1.08, rows=[3])))
    assert [row.spec_id for row in comparison.rows if row.doubt == "sweeps"] == ["3"]
    assert comparison.outcome == "undecided"


def test_a_mean_that_could_not_have_seen_the_tolerance_is_undecided() -> None:
    logs = drawn(np.random.default_rng(9), num_sweeps=2, sweep=0.0, process=0.15)
    assert compare(side_of_logs(logs[:1]), side_of_logs(logs[1:]), sweep_spread=0.0).outcome == "undecided"
