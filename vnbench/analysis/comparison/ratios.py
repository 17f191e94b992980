"""Compute ratios of times between two sides, with intervals that hold for all rows together.

The ratios are differences of means of logarithms. Two kinds of noise go into their intervals: that between processes,
whose variances are shrunk over the rows (analysis.statistics.shrinkage), and that between whole sweeps
(analysis.comparison.sweep_spread). Each has an interval of Student's t, and the half-widths are added in quadrature,
which is at least as wide as an interval of their sum.

FAMILY_ERROR bounds the share of comparisons of equals that find a regression. Half of it belongs to the mean of all
rows, and the other half is shared by the rows (Bonferroni). Only slower is a regression, so two-sided intervals have
twice these error rates.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import chdtri

from vnbench.analysis.comparison.sides import SideFigure
from vnbench.analysis.comparison.sweep_spread import ASSUMED_SPREAD, Level, SweepSpread, spread_between_sweeps
from vnbench.analysis.statistics.estimate import Estimate, student_t, sum_of_variances
from vnbench.analysis.statistics.ratio import POWER, Ratio
from vnbench.analysis.statistics.shrinkage import fit_prior, shrink

FAMILY_ERROR = 0.01
"""Probability that a comparison of equals finds any of them slower."""

ASSUMED_DOF = 3
"""Degrees of freedom of Student's t for shifts of sweeps that were not measured."""

MAX_SWEEP_DOF = 4.0
"""Most degrees of freedom of a spread between sweeps: with more, shifts with heavy tails give more false alarms than
FAMILY_ERROR (simulated)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepNoise:
    """What is known of the noise between the whole sweeps of a comparison."""

    levels: Sequence[Level] = ()
    """Sweeps of one revision each, of both sides and of a baseline's history; rows are named by their number."""
    counts: tuple[int, int] = (1, 1)
    """Sweeps that the figures of baseline and candidate are made of."""
    told: float | None = None
    """Relative standard deviation between sweeps that the user tells; 0 where both sides were measured in turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Ratios of the times of two sides."""

    rows: tuple[Ratio, ...]
    """The ratio of every pair."""
    mean: Ratio | None
    """Their geometric mean; None with fewer than two."""
    sweeps: SweepSpread
    """Noise between whole sweeps, as far as it is known."""


IN_TURN = SweepNoise(told=0.0)
"""Both sides are measured in turn, or within one sweep: what sweeps differ by cancels."""


def compare_times(
    pairs: Sequence[tuple[SideFigure, SideFigure]], *, family_error: float = FAMILY_ERROR, noise: SweepNoise = IN_TURN
) -> Compared:
    """Return the ratio of every pair (baseline, candidate), and their geometric mean.

    All rows have equal weight in the mean. If the noise of every row is known, the error of the mean follows from it.
    Otherwise it follows from the differences between the rows' ratios, which needs no repetition but counts different
    effects as noise.

    Where the noise between sweeps is unknown, the intervals hold that of processes alone, and the ratios get an
    allowance for it.
    """
    logs = [math.log(candidate.value / baseline.value) for baseline, candidate in pairs]
    freedoms = [baseline.dof + candidate.dof for baseline, candidate in pairs]
    variances = [_pooled_variance(*pair) for pair in pairs]
    repeated = [(variance, freedom) for variance, freedom in zip(variances, freedoms, strict=True) if freedom > 0]
    prior = fit_prior([variance for variance, _ in repeated], [freedom for _, freedom in repeated])
    one_process: list[tuple[float, float] | None] = [
        shrink(prior, variance=variance, degrees_of_freedom=freedom) if freedom else None
        for variance, freedom in zip(variances, freedoms, strict=True)
    ]
    errors = [
        None if known is None else (known[0] * (1 / baseline.num_processes + 1 / candidate.num_processes), known[1])
        for known, (baseline, candidate) in zip(one_process, pairs, strict=True)
    ]
    overall = _overall(logs, errors)
    sweeps = _sweeps(noise, one_process, overall)
    share = 1 / noise.counts[0] + 1 / noise.counts[1]
    num_rows = max(1, sum(error is not None for error in errors))
    shared = _shared_margin(sweeps, family_error=family_error, share=share)
    rows = tuple(
        _ratio(log, error, level=1 - family_error / num_rows, sweeps=sweeps, share=share, shared=shared)
        for log, error in zip(logs, errors, strict=True)
    )
    mean = None
    if overall is not None:
        log = statistics.fmean(logs)
        mean = _mean_ratio(log, overall, level=1 - family_error, sweeps=sweeps, share=share, shared=shared)
    return Compared(rows=rows, mean=mean, sweeps=sweeps)


def _sweeps(
    noise: SweepNoise, one_process: Sequence[tuple[float, float] | None], overall: tuple[float, float] | None
) -> SweepSpread:
    """Return the noise between sweeps that was told, or else that of the sweeps themselves."""
    if noise.told is not None:
        return SweepSpread(mean=noise.told, dof=math.inf)
    known = {str(row): found[0] for row, found in enumerate(one_process) if found is not None}
    return spread_between_sweeps(noise.levels, process_variances=known)


def _pooled_variance(baseline: SideFigure, candidate: SideFigure) -> float:
    """Return the variance within the two sides, pooled; 0 if neither has two processes."""
    parts = [(side.dof, side.log_variance) for side in (baseline, candidate)]
    total = sum(freedom for freedom, variance in parts if variance is not None)
    return sum(freedom * variance for freedom, variance in parts if variance is not None) / total if total else 0.0


def _overall(logs: Sequence[float], errors: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Return the squared standard error of the mean over the rows, and its degrees of freedom; None for one row."""
    count = len(logs)
    if count < 2:
        return None
    known = [error for error in errors if error is not None]
    if len(known) < count:
        return statistics.variance(logs) / count, count - 1.0
    square, freedom = sum_of_variances(known)
    return square / count**2, freedom


@dataclass(frozen=True, kw_only=True, slots=True)
class _SharedMargin:
    """Half-widths that the noise between whole sweeps adds to every interval."""

    known: float
    """By what is known of it."""
    allowance: float
    """By what is assumed, because too little is known."""


def _shared_margin(sweeps: SweepSpread, *, family_error: float, share: float) -> _SharedMargin:
    """Return the margins of the shift that all rows of a sweep share; ``share`` is 1/m + 1/n for m and n sweeps.

    All rows have it in common, so it needs no correction for their number. Shifts have heavy tails.

    A few sweeps spread far by chance, so no more is added than heavy tails need: those of ASSUMED_SPREAD, or of the
    measured spread where it is larger, so that an assumption never hides what was measured.
    """
    level, scale = 1 - family_error, math.sqrt(share)
    tail = student_t(ASSUMED_DOF, level) / math.sqrt(ASSUMED_DOF / (ASSUMED_DOF - 2)) * scale
    if not sweeps.is_known:
        return _SharedMargin(known=0.0, allowance=tail * ASSUMED_SPREAD)
    if sweeps.dof == math.inf:
        return _SharedMargin(known=student_t(math.inf, level) * sweeps.mean * scale, allowance=0.0)
    known = student_t(min(sweeps.dof, MAX_SWEEP_DOF), level) * sweeps.mean * scale
    return _SharedMargin(known=min(known, tail * max(ASSUMED_SPREAD, sweeps.mean)), allowance=0.0)


def _mean_ratio(
    log: float, error: tuple[float, float], *, level: float, sweeps: SweepSpread, share: float, shared: _SharedMargin
) -> Ratio:
    """Return the mean over the rows. Sweeps show the noise of their processes too, so the wider part counts.

    The standard error, with which the mean is found to be no slower, holds the spread between sweeps only where it is
    more than processes explain: a few sweeps often spread more by chance.
    """
    square, dof = error
    between = sweeps.mean**2 * share
    within = student_t(dof, level) * math.sqrt(square)
    if sweeps.dof == math.inf:
        se, margin = math.sqrt(square + between), math.hypot(within, shared.known)
    else:
        is_more = sweeps.dof > 0 and between > square * float(chdtri(sweeps.dof, 1 - POWER)) / sweeps.dof
        se, margin = math.sqrt(between if is_more else square), max(within, shared.known)
    return Ratio(log=Estimate(value=log, se=se, dof=dof), level=level, margin=margin, allowance=shared.allowance)


def _ratio(
    log: float,
    error: tuple[float, float] | None,
    *,
    level: float,
    sweeps: SweepSpread,
    share: float,
    shared: _SharedMargin,
) -> Ratio:
    if error is None:
        return Ratio(log=Estimate(value=log), level=level)
    square, dof = error
    own = student_t(dof, level) * math.sqrt(square)
    scale = math.sqrt(share)
    single = student_t(MAX_SWEEP_DOF, level) * sweeps.single * scale
    assumed = 0.0 if sweeps.is_known else student_t(math.inf, level) * ASSUMED_SPREAD * scale
    return Ratio(
        log=Estimate(value=log, se=math.sqrt(square + (sweeps.mean**2 + sweeps.single**2) * share), dof=dof),
        level=level,
        margin=math.hypot(own, single, shared.known),
        allowance=math.hypot(shared.allowance, assumed),
    )
