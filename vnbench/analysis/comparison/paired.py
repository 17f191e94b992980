"""Compute ratios between configurations that trained on the same examples, with paired intervals.

All training trials of a sweep train on the same examples, so the cost of the images is the same on both sides and
cancels: a higher cost per pixel of large images is not noise. Two relative parts remain: sigma_b^2 between processes,
equal for every spec of a sweep (analysis.statistics.process_spread), and w^2 within processes. The variance of the
logarithm of a ratio of means over m and n processes is (1/m + 1/n) sigma_b^2 + w^2, with w^2 summed over both sides.

w^2 comes from the first of these sources that is available:

1. Both sides repeated steps (in other epochs or processes): residuals around the mean of each step, pooled over the
   specs of the sweep if a side has few of its own.
2. Both sides have the same steps (equal examples and canvases), paired one by one: residuals of y - R x
   (statistics.means.correlated_ratio_of_sums). These include differences between canvases in the ratio of the sides.
   They are pooled with the noise of steps of the specs that repeat theirs.
3. The sides group examples differently: only the whole epoch is common. The noise of a step is that of the specs that
   repeat theirs, relative to its length, so fewer and longer steps are noisier in sum.
4. Nothing was repeated: the steps of each side count as draws, including differences between canvases. These intervals
   are too wide.

The spread between processes is pooled over all repeated specs of the sweep. Shrinkage (analysis.statistics.shrinkage)
would not help: it needs five repeated specs, each with its own spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.optimize import brentq

from vnbench.analysis.statistics.estimate import Estimate, student_t, sum_of_variances
from vnbench.analysis.statistics.means import correlated_ratio_of_sums
from vnbench.analysis.statistics.process_spread import Spread, spread_of
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.steps_seen import (
    SeenProcess,
    StepNoise,
    equal_steps,
    mean_steps_s,
    pooled_noise,
    step_noise,
)

MAX_EXPLAINED = 0.7
"""A squared spread of at most this share of what steps explain counts as explained by the steps. With 1 instead, too
many spreads count as explained, and only 92 % of the intervals hold the truth (simulated)."""

OWN_FREEDOM = 6
"""Fewest degrees of freedom with which the noise of a spec's own steps is used instead of that of all specs: Student's
t is 2.4 with 6 degrees of freedom, and 12.7 with two images in two processes."""

MIN_FREEDOM = 2
"""Fewest degrees of freedom of a spread that may gain any from steps: two processes often agree by chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """The processes of one spec that have valid times."""

    processes: tuple[SeenProcess, ...]
    """The processes, at least one."""

    @property
    def time(self) -> float:
        """Seconds per valid pixel, mean over the processes."""
        return fmean(one.time.value for one in self.processes)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of an epoch's steps, if equal in all processes; empty if unknown or different."""
        shapes = self.processes[0].shapes
        return shapes if all(one.shapes == shapes for one in self.processes) else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepNoise:
    """The noise of all training trials of a sweep, from its repetitions."""

    spread: Spread | None
    """Spread between processes; None if no spec ran in two processes."""
    steps: StepNoise | None
    """Noise of steps within a process, pooled over the specs with repeated steps; None without any."""


def sweep_noise(sides: Sequence[Side], *, borrowed: Spread | None = None) -> SweepNoise:
    """Return the noise of a sweep's training trials from those that were repeated.

    ``borrowed`` is the spread of another kind of trial, used if no training trial was repeated.
    """
    own = [(side, step_noise(side.processes)) for side in sides]
    spread = spread_of([[_figures(side, noise)] for side, noise in own])
    return SweepNoise(
        spread=borrowed if spread is None else spread,
        steps=pooled_noise([noise for _, noise in own if noise is not None]),
    )


def compare_speed(side: Side, reference: Side, *, noise: SweepNoise) -> Ratio:
    """Return the speed (valid pixels per second) of one side over that of another on the same examples."""
    within = _within(side, reference, noise.steps)
    variance, freedom = _variance(within, noise.spread, share=1 / len(side.processes) + 1 / len(reference.processes))
    se = None if variance is None else math.sqrt(variance)
    return Ratio(log=Estimate(value=math.log(reference.time / side.time), se=se, dof=freedom))


def _figures(side: Side, noise: StepNoise | None) -> list[Estimate]:
    """Return the times of the processes, with errors from repeated steps."""
    if noise is None:
        return [Estimate(value=one.time.value) for one in side.processes]
    error = noise.relative / math.sqrt(equal_steps(side.shapes))
    return [
        Estimate(
            value=one.time.value,
            se=error / math.sqrt(len(one.epochs_s)) * one.time.value,
            dof=max(1, round(noise.degrees_of_freedom)),
        )
        for one in side.processes
    ]


def _within(side: Side, reference: Side, steps: StepNoise | None) -> tuple[float, float] | None:
    """Return the part w^2 of the variance of the logarithm of the ratio, and its degrees of freedom."""
    sides = (side, reference)
    own = [step_noise(one.processes) for one in sides]
    known = [
        _of_mean(one, noise)
        for one, found in zip(sides, own, strict=True)
        if one.shapes and (noise := _better_known(found, steps))
    ]
    from_repeated = sum_of_variances(known) if len(known) == len(sides) else None
    is_paired = side.shapes == reference.shapes and len(side.shapes) > 1
    if is_paired and None in own:
        return _pooled(_of_pairs(side, reference), from_repeated)
    if from_repeated is not None:
        return from_repeated
    draws = [part for one in sides if (part := _of_draws(one)) is not None]
    return sum_of_variances(draws) if len(draws) == len(sides) else None


def _better_known(own: StepNoise | None, pooled: StepNoise | None) -> StepNoise | None:
    """Return the noise of a side's own steps; the pooled noise of the sweep if the side has few or none."""
    if own is None or (pooled is not None and own.degrees_of_freedom < OWN_FREEDOM):
        return pooled
    return own


def _of_pairs(side: Side, reference: Side) -> tuple[float, float]:
    """Return the variance of the logarithm of the ratio of sums over equal steps, and its degrees of freedom."""
    pairs = correlated_ratio_of_sums(mean_steps_s(side.processes), mean_steps_s(reference.processes))
    assert pairs.relative_error is not None
    return pairs.relative_error**2, pairs.dof


def _pooled(one: tuple[float, float], other: tuple[float, float] | None) -> tuple[float, float]:
    """Return the mean of two estimates of one variance, weighted by their degrees of freedom."""
    if other is None:
        return one
    total = one[1] + other[1]
    return (one[1] * one[0] + other[1] * other[0]) / total, total


def _of_mean(side: Side, noise: StepNoise) -> tuple[float, float]:
    """Return the relative variance of a side's mean from the noise of its steps, and its degrees of freedom."""
    share = math.fsum(1 / len(one.epochs_s) for one in side.processes) / len(side.processes) ** 2
    return share * noise.relative**2 / equal_steps(side.shapes), noise.degrees_of_freedom


def _of_draws(side: Side) -> tuple[float, float] | None:
    """Return the relative variance of a side's mean with its steps as draws, and its degrees of freedom."""
    known = [
        (one.time.relative_error**2 / len(side.processes) ** 2, one.time.dof)
        for one in side.processes
        if one.time.relative_error is not None
    ]
    return sum_of_variances(known) if len(known) == len(side.processes) else None


def _variance(within: tuple[float, float] | None, spread: Spread | None, *, share: float) -> tuple[float | None, float]:
    """Return the variance of the logarithm of a ratio, and its degrees of freedom.

    ``share`` is 1/m + 1/n for m and n processes. The observed spread s includes the part v that its own steps explain.
    If the steps of this pair explain more than v, the difference is added, as in process_spread.mean_of_processes. If
    steps explain the whole spread and more, the error of the steps is larger and better known, and it is used instead.
    In simulations with one to three processes per side, one or two epochs, and spreads of 0 to 3 times the noise of an
    epoch, 93 to 98 % of the intervals hold the truth (tests/analysis/test_paired.py).
    """
    if spread is None:
        return within or (None, math.inf)
    observed = spread.relative**2 * share
    if within is None:
        return observed, spread.degrees_of_freedom
    of_steps, step_freedom = within
    explained = spread.relative_within**2 * share
    added = max(0.0, of_steps - explained)
    if spread.degrees_of_freedom < MIN_FREEDOM:
        return observed + added, spread.degrees_of_freedom
    if observed <= MAX_EXPLAINED * explained:
        return max(of_steps, explained), step_freedom
    if added == 0:
        return observed, spread.degrees_of_freedom
    return observed + added, _freedom_of_sum((observed, spread.degrees_of_freedom), (added, step_freedom))


def _freedom_of_sum(*parts: tuple[float, float]) -> float:
    """Return the degrees of freedom with which the squared half-width of a sum is the sum of those of its parts.

    Welch's and Satterthwaite's formula gives too many if a spread with two degrees of freedom is small by chance.
    """
    total = math.fsum(variance for variance, _ in parts)
    squares = math.fsum(variance * student_t(freedom) ** 2 for variance, freedom in parts)
    factor = math.sqrt(squares / total)
    freedoms = sorted(freedom for _, freedom in parts)
    low, high = freedoms[0], min(freedoms[-1], 1e6)
    if not student_t(high) < factor < student_t(low):
        return low if factor >= student_t(low) else high
    return float(brentq(lambda freedom: student_t(freedom) - factor, low, high))
