"""Compute ratios of times between two sides, with intervals that hold for all rows together.

The ratios are differences of means of logarithms, with intervals from Student's t. Variances between processes are
shrunk over the rows (analysis.statistics.shrinkage). The rows and their geometric mean share the error rate evenly
(Bonferroni), so FAMILY_ERROR is the probability that any interval misses its ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from vnbench.analysis.comparison.sides import SideFigure
from vnbench.analysis.statistics.estimate import Estimate, sum_of_variances
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.statistics.shrinkage import fit_prior, shrink

FAMILY_ERROR = 0.01
"""Probability that any interval of a comparison misses its ratio, on either side."""


def compare_times(
    pairs: Sequence[tuple[SideFigure, SideFigure]], *, family_error: float = FAMILY_ERROR, sweep_spread: float = 0.0
) -> tuple[tuple[Ratio, ...], Ratio | None]:
    """Return the ratio of every pair (baseline, candidate), and their geometric mean, or None with under two pairs.

    ``sweep_spread`` is the relative standard deviation between whole sweeps, which all rows share, for example because
    of a warm room or another program. Repetitions within a sweep do not show it; see comparison.calibration.

    All rows have equal weight in the geometric mean. If the noise of every row is known, the error of the mean follows
    from it. Otherwise it follows from the differences between the rows' ratios, which needs no repetition but counts
    different effects as noise.
    """
    logs = [math.log(candidate.value / baseline.value) for baseline, candidate in pairs]
    freedoms = [baseline.num_processes + candidate.num_processes - 2 for baseline, candidate in pairs]
    variances = [_pooled_variance(*pair) for pair in pairs]
    repeated = [(variance, freedom) for variance, freedom in zip(variances, freedoms, strict=True) if freedom > 0]
    prior = fit_prior([variance for variance, _ in repeated], [freedom for _, freedom in repeated])
    errors: list[tuple[float, float] | None] = []
    for (baseline, candidate), variance, freedom in zip(pairs, variances, freedoms, strict=True):
        if freedom == 0:
            errors.append(None)
            continue
        shrunk, total = shrink(prior, variance=variance, degrees_of_freedom=freedom)
        errors.append((shrunk * (1 / baseline.num_processes + 1 / candidate.num_processes), total))
    overall = _overall(logs, errors)
    num_tests = sum(error is not None for error in errors) + (overall is not None)
    level = 1 - family_error / max(1, num_tests)
    rows = tuple(_ratio(log, error, level, sweep_spread) for log, error in zip(logs, errors, strict=True))
    return rows, None if overall is None else _ratio(statistics.fmean(logs), overall, level, sweep_spread)


def _pooled_variance(baseline: SideFigure, candidate: SideFigure) -> float:
    """Return the variance within the two sides, pooled; 0 if neither has two processes."""
    parts = [(side.num_processes - 1, side.log_variance) for side in (baseline, candidate)]
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


def _ratio(log: float, error: tuple[float, float] | None, level: float, sweep_spread: float) -> Ratio:
    if error is None:
        return Ratio(log=Estimate(value=log), level=level)
    within, dof = error
    square = within + 2 * sweep_spread**2
    if sweep_spread and within:
        dof *= (square / within) ** 2
    return Ratio(log=Estimate(value=log, se=math.sqrt(square), dof=dof), level=level)
