"""The figures that the gate has to reach, in benchmarks/experiments/gate_simulation.py with fixed seeds."""

from __future__ import annotations

import math

import gate_simulation as simulation
import gate_sweep_simulation as sweep_simulation
import pytest

from vnbench.analysis.comparison.calibration import processes_needed
from vnbench.analysis.comparison.sweep_spread import ASSUMED_SPREAD

GATE = {"gate": simulation.gate}


@pytest.mark.parametrize("size", [0.01, 0.02, 0.04])
def test_at_most_one_comparison_in_a_hundred_raises_a_false_alarm(size: float) -> None:
    runs = 40
    shares = [simulation.found(noise, rules=GATE, num_runs=runs, seed=1)["gate"] for noise in simulation.noises(size)]
    assert sum(shares) * runs <= 0.01 * runs * len(shares)


@pytest.mark.parametrize("num_processes", [2, 3, 5])
def test_so_it_is_with_few_processes(num_processes: int) -> None:
    runs = 40
    shares = [
        simulation.found(noise, rules=GATE, num_runs=runs, num_processes=num_processes, seed=2)["gate"]
        for noise in simulation.noises(0.02)
    ]
    assert sum(shares) * runs <= 0.01 * runs * len(shares)


@pytest.mark.parametrize("num_processes", [1, simulation.NUM_PROCESSES])
def test_a_slowdown_of_all_rows_is_found(num_processes: int) -> None:
    for noise in simulation.noises(0.02):
        if noise.hiccups and num_processes == 1:
            continue  # slowed processes make it noise of 4 %, which nothing averages
        share = simulation.found(
            noise, rules=GATE, slow_rows=simulation.NUM_ROWS, num_runs=40, num_processes=num_processes, seed=3
        )["gate"]
        assert share >= 0.95, noise.name


def test_a_slowdown_of_one_row_is_found_with_the_processes_that_are_named_for_it() -> None:
    noise = simulation.noises(0.02)[2]
    spread = math.hypot(noise.between, noise.within / math.sqrt(simulation.NUM_STEPS))
    count = processes_needed(spread, detect=0.03, tolerance=simulation.TOLERANCE, num_rows=simulation.NUM_ROWS)
    assert count is not None
    share = simulation.found(noise, rules=GATE, slow_rows=1, num_runs=60, num_processes=count, seed=4)["gate"]
    assert share >= 0.95


def test_rules_that_ignore_processes_or_the_number_of_rows_do_worse_on_the_same_data() -> None:
    noise = simulation.noises(0.04)[2]
    shares = simulation.found(noise, num_runs=20, seed=5)
    assert shares["gate"] < 0.1
    assert shares["rank test"] > 0.5
    small = simulation.found(simulation.noises(0.02)[2], slow_rows=simulation.NUM_ROWS, num_runs=20, seed=6)
    assert small["gate"] == 1
    assert small["rank + 10%"] == 0, "a slowdown of 3 % never reaches its 10 %"


@pytest.mark.parametrize("layout", sweep_simulation.LAYOUTS, ids=lambda layout: layout.name)
def test_whole_sweeps_that_differ_raise_no_more_false_alarms(layout: sweep_simulation.Layout) -> None:
    runs = 12
    shares = [sweep_simulation.outcomes(noise, layout, num_runs=runs, seed=7) for noise in sweep_simulation.noises()]
    assert sum(share.get("regression", 0.0) for share in shares) * runs <= 0.01 * runs * len(shares)


def test_sweeps_that_differ_by_more_than_is_assumed_raise_hardly_more_false_alarms() -> None:
    noise = sweep_simulation.Noise(process=0.01, sweep=2 * ASSUMED_SPREAD, is_heavy=True)
    shares = sweep_simulation.outcomes(noise, sweep_simulation.LAYOUTS[1], num_runs=1000, seed=11)
    assert shares.get("regression", 0.0) <= 0.02


@pytest.mark.parametrize("layout", sweep_simulation.LAYOUTS, ids=lambda layout: layout.name)
def test_unchanged_code_passes_where_sweeps_hardly_differ(layout: sweep_simulation.Layout) -> None:
    quiet = [noise for noise in sweep_simulation.noises() if noise.sweep <= 0.002]
    shares = [sweep_simulation.outcomes(noise, layout, num_runs=20, seed=8) for noise in quiet]
    assert sum(share.get("undecided", 0.0) for share in shares) <= 0.05 * len(shares)


def test_in_turn_a_drift_raises_no_alarm_and_hides_no_slowdown() -> None:
    for noise in sweep_simulation.noises():
        if noise.sweep == 0.04:
            same = sweep_simulation.in_turn(noise, num_runs=8, seed=9)
            slow = sweep_simulation.in_turn(noise, slowdown=0.03, num_runs=8, seed=10)
            assert same.shares.get("regression", 0.0) == 0.0
            assert same.shares["pass"] >= 0.8
            assert slow.shares["regression"] >= 0.8
