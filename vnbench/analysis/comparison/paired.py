"""Ratios between configurations that trained on the same examples, with the interval of the paired ratio.

All training trials of a sweep train on the same examples, so what images cost is the same on both sides and cancels:
large images that take longer per pixel are no noise. What is left has two parts, both relative: sigma_b^2 between
processes, the same for every spec of a sweep (analysis.statistics.process_spread), and w^2 within them. The variance
of the logarithm of a ratio of means over m and n processes is (1/m + 1/n) sigma_b^2 + w^2, with w^2 the sum of both.

w^2 comes, in this order, from

1. repeated steps of both sides (other epochs, other processes): residuals around each step's own mean, pooled over the
   specs of the sweep where a side's own are few;
2. steps that are the same groups of examples in the same canvases on both sides, paired one by one: residuals of
   y - R x (stats.correlated_ratio_of_sums), in which is what the sides do to one canvas more than to another; together
   with the noise of steps of those specs that repeat theirs;
3. where examples are grouped otherwise, the whole epoch is what both have in common, and the noise of a step is that of
   the specs that repeat theirs, relative to its length: fewer and longer steps are noisier together;
4. with nothing repeated anywhere, each side's steps as draws, canvases of different cost included: too wide.

The spread between processes is pooled over all repeated specs of the sweep. Moderation by a prior (analysis.moderation)
would not help: it needs five repeated specs with a spread of their own each.
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
"""Share of what steps explain below which a spread, squared, counts as explained by them. At 1 the spread is taken for
explained too often where it is not, and 92 % of the intervals hold the truth (simulated)."""

OWN_FREEDOM = 6
"""Degrees of freedom from which on the noise of a spec's own steps is taken, and not that of all specs: Student's t is
2.4 there, and 12.7 with two images in two processes."""

MIN_FREEDOM = 2
"""Degrees of freedom of a spread below which what steps say lends it none: two processes often agree by chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """The processes of one spec with a valid timing."""

    processes: tuple[SeenProcess, ...]
    """At least one."""

    @property
    def time(self) -> float:
        """Mean over the processes of the seconds per valid pixel."""
        return fmean(one.time.value for one in self.processes)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of an epoch's steps, the same in all processes; empty where they are not known, or differ."""
        shapes = self.processes[0].shapes
        return shapes if all(one.shapes == shapes for one in self.processes) else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepNoise:
    """What the repetitions of a sweep say of all of its training trials."""

    spread: Spread | None
    """Between processes; None where no spec ran in two."""
    steps: StepNoise | None
    """Of steps within a process, pooled over the specs that repeat theirs; None where none does."""


def sweep_noise(sides: Sequence[Side], *, borrowed: Spread | None = None) -> SweepNoise:
    """Return what the repeated trials among some specs say of all of them.

    ``borrowed`` is the spread of another kind of trial, for a sweep whose training trials are not repeated.
    """
    own = [(side, step_noise(side.processes)) for side in sides]
    spread = spread_of([[_figures(side, noise)] for side, noise in own])
    return SweepNoise(
        spread=borrowed if spread is None else spread,
        steps=pooled_noise([noise for _, noise in own if noise is not None]),
    )


def compare_speed(side: Side, reference: Side, *, noise: SweepNoise) -> Ratio:
    """Return the valid pixels per second of one side over those of another that trained on the same examples."""
    within = _within(side, reference, noise.steps)
    variance, freedom = _variance(within, noise.spread, share=1 / len(side.processes) + 1 / len(reference.processes))
    se = None if variance is None else math.sqrt(variance)
    return Ratio(log=Estimate(value=math.log(reference.time / side.time), se=se, dof=freedom))


def _figures(side: Side, noise: StepNoise | None) -> list[Estimate]:
    """Return the processes' times with the errors that repeated steps give them."""
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
    """Return the variance of the logarithm of the ratio that steps explain, and its degrees of freedom."""
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
    """Return the noise of a side's own steps, or where they say little that of all specs of the sweep."""
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
    """Return the variance of a side's mean, relative, from the noise of its steps."""
    share = math.fsum(1 / len(one.epochs_s) for one in side.processes) / len(side.processes) ** 2
    return share * noise.relative**2 / equal_steps(side.shapes), noise.degrees_of_freedom


def _of_draws(side: Side) -> tuple[float, float] | None:
    """Return the variance of a side's mean, relative, where its steps are taken as draws."""
    known = [
        (one.time.relative_error**2 / len(side.processes) ** 2, one.time.dof)
        for one in side.processes
        if one.time.relative_error is not None
    ]
    return sum_of_variances(known) if len(known) == len(side.processes) else None


def _variance(within: tuple[float, float] | None, spread: Spread | None, *, share: float) -> tuple[float | None, float]:
    """Return the variance of the logarithm of a ratio, and its degrees of freedom.

    ``share`` is 1/m + 1/n for m and n processes. The spread s as observed holds what its own steps explain, v. Where
    the steps of this pair explain more than that, the difference is added, as between.mean_of_processes does; where
    they explain all of the spread and more, their own error is the better known and the larger one, and it is taken.
    Simulated with one to three processes a side, one epoch or two, and spreads of 0 to 3 times the noise of an epoch:
    93 to 98 % of the intervals hold the truth (tests/analysis/test_paired.py).
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
    """Return degrees of freedom at which the half-width of a sum is the parts' own, added in squares.

    Welch's and Satterthwaite's are too many where a spread of two degrees of freedom came out small by chance.
    """
    total = math.fsum(variance for variance, _ in parts)
    squares = math.fsum(variance * student_t(freedom) ** 2 for variance, freedom in parts)
    factor = math.sqrt(squares / total)
    freedoms = sorted(freedom for _, freedom in parts)
    low, high = freedoms[0], min(freedoms[-1], 1e6)
    if not student_t(high) < factor < student_t(low):
        return low if factor >= student_t(low) else high
    return float(brentq(lambda freedom: student_t(freedom) - factor, low, high))
