"""Simulation of rules for finding regressions in noise, with fixed seeds and all rules on the same data.

A comparison has 50 rows with several processes per side, each of several steps. Each process has its own speed, its
steps have noise that may be correlated or heavy-tailed, and sometimes something else slows a process. Rules:

    gate           vnbench's
        mean 5%        pytest-benchmark's --benchmark-compare-fail mean:5%, a plain threshold on the mean
    min 5%         pytest-benchmark's --benchmark-compare-fail min:5%
        rank test      Mann and Whitney's U over all steps, p < 0.002, for each row
        rank + 10%     asv's: the rank test, and a ratio of medians of at least 1.1

`python benchmarks/experiments/gate_simulation.py` prints the table that gate_report.py puts into reports/gate_*.md.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from vnbench.analysis.comparison.calibration import is_alarm
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import figure_of

Values = NDArray[np.float64]
"""Step times (rows, processes, steps), relative to an undisturbed step."""

NUM_ROWS = 50
NUM_STEPS = 20
NUM_PROCESSES = 10
NUM_RUNS = 400
TOLERANCE = Tolerances().time


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Scatter of a row's step times; all figures are relative."""

    name: str
    """Name of the kind of noise."""
    between: float
    """Standard deviation of the speeds of processes."""
    within: float
    """Standard deviation of the steps of a process."""
    correlation: float = 0.0
    """Correlation of neighbouring steps."""
    tail: float | None = None
    """Degrees of freedom of Student's t for both; None for the normal distribution."""
    hiccups: float = 0.0
    """Share of processes that are slowed by ten times ``between``."""
    unequal: float = 0.0
    """Standard deviation of the logarithm of a row's noise factor."""

    def draw(self, random: np.random.Generator, *, num_processes: int, slowdown: Values) -> Values:
        """Return the step times of rows that are slowed by ``slowdown`` (rows,)."""
        shape = (len(slowdown), num_processes, NUM_STEPS)
        speeds = self.between * self._scatter(random, shape[:2])
        if self.hiccups:
            speeds += 10 * self.between * (random.random(shape[:2]) < self.hiccups)
        steps = self.within * self._scatter(random, shape)
        if self.correlation:
            innovation = math.sqrt(1 - self.correlation**2)
            for step in range(1, NUM_STEPS):
                steps[..., step] = self.correlation * steps[..., step - 1] + innovation * steps[..., step]
        scale = np.exp(self.unequal * np.random.default_rng(len(slowdown)).standard_normal(len(slowdown)))
        logs = scale[:, np.newaxis, np.newaxis] * (speeds[..., np.newaxis] + steps)
        times: Values = slowdown[:, np.newaxis, np.newaxis] * np.exp(logs)
        return times

    def _scatter(self, random: np.random.Generator, shape: tuple[int, ...]) -> Values:
        if self.tail is None:
            return random.standard_normal(shape)
        drawn: Values = random.standard_t(self.tail, shape) / math.sqrt(self.tail / (self.tail - 2))
        return drawn


def noises(size: float) -> tuple[Noise, ...]:
    """Return the kinds of noise of one relative size."""
    return (
        Noise(name="steps alone", between=0.0, within=size * math.sqrt(NUM_STEPS)),
        Noise(name="correlated steps", between=0.0, within=size * math.sqrt(NUM_STEPS / 4), correlation=0.6),
        Noise(name="a speed per process", between=size, within=size),
        Noise(name="heavy tails", between=size, within=size, tail=3.0),
        Noise(name="a process in thirty slowed", between=size, within=size, hiccups=1 / 30),
        Noise(name="some rows noisier", between=size, within=size, unequal=0.5),
    )


Rule = Callable[[Values, Values], bool]
"""Returns whether a candidate is found to be worse than its baseline in any row."""


def gate(baseline: Values, candidate: Values) -> bool:
    means = [values.mean(axis=2).tolist() for values in (baseline, candidate)]
    pairs = [
        (figure_of(before, metric="time"), figure_of(after, metric="time"))
        for before, after in zip(*means, strict=True)
    ]
    return is_alarm(pairs, tolerance=TOLERANCE)


def mean_threshold(baseline: Values, candidate: Values, *, threshold: float = 0.05) -> bool:
    return bool((candidate.mean(axis=(1, 2)) > (1 + threshold) * baseline.mean(axis=(1, 2))).any())


def min_threshold(baseline: Values, candidate: Values, *, threshold: float = 0.05) -> bool:
    return bool((candidate.min(axis=(1, 2)) > (1 + threshold) * baseline.min(axis=(1, 2))).any())


def rank_test(baseline: Values, candidate: Values) -> bool:
    return bool(_is_higher(baseline, candidate).any())


def rank_and_size(baseline: Values, candidate: Values) -> bool:
    ratios = np.median(candidate, axis=(1, 2)) / np.median(baseline, axis=(1, 2))
    return bool((_is_higher(baseline, candidate) & (ratios > 1.1)).any())


def _is_higher(baseline: Values, candidate: Values) -> NDArray[np.bool_]:
    flat = [values.reshape(len(values), -1) for values in (baseline, candidate)]
    # As asv does: the exact distribution of few values.
    method = "exact" if flat[0].shape[1] <= 20 else "asymptotic"
    is_higher: NDArray[np.bool_] = mannwhitneyu(flat[0], flat[1], axis=1, method=method).pvalue < 0.002
    return is_higher & (np.median(flat[1], axis=1) > np.median(flat[0], axis=1))


RULES: Mapping[str, Rule] = {
    "gate": gate,
    "mean 5%": mean_threshold,
    "min 5%": min_threshold,
    "rank test": rank_test,
    "rank + 10%": rank_and_size,
}


def found(
    noise: Noise,
    *,
    rules: Mapping[str, Rule] = RULES,
    slow_rows: int = 0,
    slowdown: float = 0.03,
    num_processes: int = NUM_PROCESSES,
    num_runs: int = NUM_RUNS,
    seed: int = 0,
) -> dict[str, float]:
    """Return the share of comparisons in which each rule finds a regression, with some rows slowed down."""
    random = np.random.default_rng(seed)
    factors = np.ones(NUM_ROWS)
    factors[:slow_rows] += slowdown
    counts = dict.fromkeys(rules, 0)
    for _ in range(num_runs):
        baseline = noise.draw(random, num_processes=num_processes, slowdown=np.ones(NUM_ROWS))
        candidate = noise.draw(random, num_processes=num_processes, slowdown=factors)
        for name, rule in rules.items():
            counts[name] += rule(baseline, candidate)
    return {name: count / num_runs for name, count in counts.items()}


def main() -> int:
    print(
        f"{NUM_ROWS} rows, {NUM_PROCESSES} processes a side, {NUM_RUNS} comparisons each: share that finds something\n"
    )
    for size in (0.01, 0.02, 0.04):
        for noise in noises(size):
            print(f"noise {100 * size:.0f} %, {noise.name}")
            for label, rows in (("nothing changed", 0), ("all rows 3 % slower", NUM_ROWS)):
                shares = found(noise, slow_rows=rows)
                print(f"    {label:20}", "  ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
