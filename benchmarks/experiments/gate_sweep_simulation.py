"""Simulation of the gate where whole sweeps of one revision differ, and where both sides are measured in turn.

Each row has noise between processes, and each sweep a shift that all its rows share; in turn, the machine drifts by as
much within the time of a sweep. No flag tells the gate how far sweeps differ.

`python benchmarks/experiments/gate_sweep_simulation.py` prints the tables that gate_report.py puts into
reports/gate_*.md.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.comparison.compare import Comparison, Outcome, compare
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sequential import MIN_BLOCKS, PairedTimes, time_rows
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of_sweeps

NUM_ROWS = 9
NUM_PROCESSES = 10
NUM_RUNS = 2000
"""Comparisons of equals for each figure: a share of 1 % is then known to 0.2 %."""

NUM_TURN_RUNS = 400
"""The same in turn, where one takes longer."""

NUM_SLOW_RUNS = 100
SLOWDOWN = 0.03
TAIL_DOF = 3
MAX_BLOCKS = 40
BLOCKS_IN_THREE_SWEEPS = 15
"""Blocks that take as long as three sweeps of NUM_PROCESSES: each runs every row on both sides."""

PROCESS_SPREADS = (0.01, 0.02, 0.04)
SWEEP_SPREADS = (0.0, 0.002, 0.01, 0.04)

Logs = NDArray[np.float64]
"""Logarithms of times (sweeps, rows, processes)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The sweeps that a comparison has."""

    name: str
    """Its name."""
    baseline: int = 1
    """Sweeps of the baseline."""
    candidate: int = 1
    """Sweeps of the candidate."""
    history: int = 0
    """Further sweeps in the history of the baseline file."""


LAYOUTS = (
    Layout(name="one sweep a side"),
    Layout(name="a history of four sweeps", history=3),
    Layout(name="a history of ten sweeps", history=9),
    Layout(name="three sweeps a side", baseline=3, candidate=3),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """The scatter of times; relative standard deviations."""

    process: float
    """Between processes of one sweep."""
    sweep: float
    """Between sweeps; in turn, of the drift within the time of a sweep."""
    is_heavy: bool
    """Whether both have the tails of Student's t with TAIL_DOF degrees of freedom."""

    def scatter(self, random: np.random.Generator, scale: float, *shape: int) -> Logs:
        """Return draws with the standard deviation ``scale``."""
        if not self.is_heavy:
            return random.normal(0.0, scale, shape)
        drawn: Logs = scale * random.standard_t(TAIL_DOF, shape) / math.sqrt(TAIL_DOF / (TAIL_DOF - 2))
        return drawn

    def sweeps(self, random: np.random.Generator, count: int, *, slowdown: float) -> Logs:
        """Return the times of some sweeps."""
        logs = self.scatter(random, self.process, count, NUM_ROWS, NUM_PROCESSES)
        return logs + self.scatter(random, self.sweep, count, 1, 1) + math.log1p(slowdown)


def noises() -> Iterator[Noise]:
    """Yield the kinds of noise of the tables."""
    for process in PROCESS_SPREADS:
        for sweep in SWEEP_SPREADS:
            for is_heavy in (False, True):
                yield Noise(process=process, sweep=sweep, is_heavy=is_heavy)


def side_of_logs(logs: Logs, *, num_sweeps: int) -> Side:
    """Return a side of the first sweeps; all of them are its history."""
    times = np.exp(logs)
    return Side(
        keys={},
        configurations={
            str(row): Configuration(
                name=str(row), figures={"time": figure_of_sweeps(times[:num_sweeps, row].tolist(), metric="time")}
            )
            for row in range(NUM_ROWS)
        },
        levels=(
            {
                str(sweep): {str(row): (math.exp(logs[sweep, row].mean()), NUM_PROCESSES) for row in range(NUM_ROWS)}
                for sweep in range(len(logs))
            },
        ),
        num_sweeps=num_sweeps,
    )


def outcomes(
    noise: Noise, layout: Layout, *, slowdown: float = 0.0, num_runs: int = NUM_RUNS, seed: int = 0
) -> Mapping[Outcome, float]:
    """Return the share of each outcome over some comparisons of sweeps."""
    random = np.random.default_rng(seed)
    counts: Counter[Outcome] = Counter()
    for _ in range(num_runs):
        before = noise.sweeps(random, layout.baseline + layout.history, slowdown=0.0)
        after = noise.sweeps(random, layout.candidate, slowdown=slowdown)
        sides = (
            side_of_logs(before, num_sweeps=layout.baseline),
            side_of_logs(after, num_sweeps=layout.candidate),
        )
        counts[compare(*sides).outcome] += 1
    return {outcome: count / num_runs for outcome, count in counts.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class InTurn:
    """What some runs of a gate in turn came to."""

    shares: Mapping[Outcome, float]
    """Share of each outcome after at most MAX_BLOCKS blocks."""
    within_three_sweeps: float
    """Share that was decided in the time of three sweeps."""
    blocks: float
    """Blocks of the median run."""


def in_turn(noise: Noise, *, slowdown: float = 0.0, num_runs: int = NUM_TURN_RUNS, seed: int = 0) -> InTurn:
    """Return what comes of blocks of pairs that run one after another, while the machine drifts."""
    random = np.random.default_rng(seed)
    counts: Counter[Outcome] = Counter()
    lengths: list[int] = []
    for _ in range(num_runs):
        processes_BR2 = noise.scatter(random, noise.process, MAX_BLOCKS, NUM_ROWS, 2)
        # A random walk from process to process, which moves by `sweep` within the time of a sweep.
        step = noise.sweep / math.sqrt(NUM_ROWS * NUM_PROCESSES)
        drift = noise.scatter(random, step, MAX_BLOCKS * NUM_ROWS * 2).cumsum().reshape(processes_BR2.shape)
        is_swapped_BR = random.random((MAX_BLOCKS, NUM_ROWS)) < 0.5
        drift = np.where(is_swapped_BR[..., np.newaxis], drift[..., ::-1], drift)
        times_BR2 = np.exp(processes_BR2 + drift + np.array([0.0, math.log1p(slowdown)]))
        outcome, num_blocks = decided(times_BR2)
        counts[outcome] += 1
        lengths.append(num_blocks if outcome != "undecided" else MAX_BLOCKS + 1)
    return InTurn(
        shares={outcome: count / num_runs for outcome, count in counts.items()},
        within_three_sweeps=sum(length <= BLOCKS_IN_THREE_SWEEPS for length in lengths) / num_runs,
        blocks=median(lengths),
    )


def decided(times_BR2: NDArray[np.float64]) -> tuple[Outcome, int]:
    """Return what a gate in turn comes to that may end after each block, and after how many blocks it ended."""
    for num_blocks in range(MIN_BLOCKS, len(times_BR2) + 1):
        pairs = [
            PairedTimes(
                identity=str(row),
                candidate_spec_id=str(row),
                baseline_s=tuple(times_BR2[:num_blocks, row, 0].tolist()),
                candidate_s=tuple(times_BR2[:num_blocks, row, 1].tolist()),
            )
            for row in range(times_BR2.shape[1])
        ]
        outcome = Comparison(rows=time_rows(pairs, tolerance=Tolerances().time), is_in_turn=True).outcome
        if outcome != "undecided":
            return outcome, num_blocks
    return "undecided", len(times_BR2)


def sweep_table() -> Iterator[str]:
    """Yield the lines of the table of comparisons of sweeps."""
    yield (
        "| processes | sweeps | tails | "
        + " | ".join(f"{layout.name}: alarm | undecided | found" for layout in LAYOUTS)
        + " |"
    )
    yield f"|---:|---:|---|{'---:|' * 3 * len(LAYOUTS)}"
    for noise in noises():
        cells = []
        for layout in LAYOUTS:
            same = outcomes(noise, layout)
            slow = outcomes(noise, layout, slowdown=SLOWDOWN, num_runs=NUM_SLOW_RUNS, seed=1)
            cells += [_percent(same, "regression"), _percent(same, "undecided"), _percent(slow, "regression", digits=0)]
        yield _line(noise, cells)


def in_turn_table() -> Iterator[str]:
    """Yield the lines of the table of gates in turn."""
    columns = ("alarm", "undecided", "blocks to pass", "found", "in the time of 3 sweeps", "blocks to find")
    yield f"| processes | drift | tails | {' | '.join(columns)} |"
    yield "|---:|---:|---|---:|---:|---:|---:|---:|---:|"
    for noise in noises():
        same = in_turn(noise)
        slow = in_turn(noise, slowdown=SLOWDOWN, num_runs=NUM_SLOW_RUNS, seed=1)
        cells = [
            _percent(same.shares, "regression"),
            _percent(same.shares, "undecided"),
            f"{same.blocks:.0f}",
            _percent(slow.shares, "regression", digits=0),
            f"{100 * slow.within_three_sweeps:.0f} %",
            f"{slow.blocks:.0f}",
        ]
        yield _line(noise, cells)


def _line(noise: Noise, cells: Sequence[str]) -> str:
    tails = "heavy" if noise.is_heavy else "normal"
    return f"| {100 * noise.process:g} % | {100 * noise.sweep:g} % | {tails} | {' | '.join(cells)} |"


def _percent(shares: Mapping[Outcome, float], outcome: Outcome, *, digits: int = 1) -> str:
    return f"{100 * shares.get(outcome, 0.0):.{digits}f} %"


def main() -> int:
    for line in (*sweep_table(), "", *in_turn_table()):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
