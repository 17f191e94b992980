"""Ratios of times between two sides with intervals that hold for all rows together, and what they could have seen.

Differences of means of logarithms, on Student's t: variances between processes are moderated over the rows
(analysis.statistics.moderation), and the error rate is shared evenly by the rows and their geometric mean (Bonferroni),
so that FAMILY_ERROR is the chance that any interval misses its ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from vnbench.analysis.comparison.sides import SideFigure
from vnbench.analysis.statistics.estimate import sum_of_variances
from vnbench.analysis.statistics.moderation import fit_prior, moderate

FAMILY_ERROR = 0.01
"""Chance that any of a comparison's intervals misses its ratio, to either side."""

LARGEST_LOG = 700.0
"""Above 709 a ratio is no floating-point number any more."""

POWER = 0.95
"""Chance with which a change of the smallest detectable size is found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """Candidate over baseline of one row."""

    log_ratio: float
    """Natural logarithm of the ratio."""
    standard_error: float | None
    """Of log_ratio; None where nothing tells how far processes differ."""
    degrees_of_freedom: float
    """On how much standard_error rests."""
    half_width: float | None
    """Half-width of the interval of log_ratio, corrected for the number of rows; None without a standard error."""

    @property
    def value(self) -> float:
        """The ratio."""
        return _exp(self.log_ratio)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the ratio; None where it has none."""
        if self.half_width is None:
            return None
        return _exp(self.log_ratio - self.half_width), _exp(self.log_ratio + self.half_width)

    def is_slower(self, tolerance: float) -> bool:
        """Return whether the interval excludes 1 to the slow side and the estimate is at least the tolerance."""
        return (
            self.half_width is not None and self.log_ratio > self.half_width and self.log_ratio >= math.log1p(tolerance)
        )

    def smallest_detectable(self, tolerance: float) -> float | None:
        """Return the least true slowdown that is called worse with POWER, relative; None without an interval.

        It has to carry the interval clear of 1 and the estimate beyond the tolerance, noise to the other side included.
        """
        if self.half_width is None or self.standard_error is None:
            return None
        needed = max(self.half_width, math.log1p(tolerance))
        return _exp(needed + float(stdtrit(self.degrees_of_freedom, POWER)) * self.standard_error) - 1


def compare_times(
    pairs: Sequence[tuple[SideFigure, SideFigure]], *, family_error: float = FAMILY_ERROR, sweep_spread: float = 0.0
) -> tuple[tuple[Ratio, ...], Ratio | None]:
    """Return the ratio of every pair (baseline, candidate), and their geometric mean; None for it below two pairs.

    ``sweep_spread`` is the relative standard deviation between sweeps as wholes, which all rows share: a warm room, a
    neighbour on the machine. No repetition within a sweep shows it (vnbench.analysis.comparison.calibration).

    The geometric mean weighs all rows alike. Where each row's own noise is known its error follows from theirs;
    otherwise from how much the rows' ratios differ, which needs no repetition and takes unequal effects for noise.
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
        moderated, total = moderate(prior, variance=variance, degrees_of_freedom=freedom)
        errors.append((moderated * (1 / baseline.num_processes + 1 / candidate.num_processes), total))
    overall = _overall(logs, errors)
    num_tests = sum(error is not None for error in errors) + (overall is not None)
    level = 1 - family_error / max(1, num_tests) / 2
    rows = tuple(_ratio(log, error, level, sweep_spread) for log, error in zip(logs, errors, strict=True))
    return rows, None if overall is None else _ratio(statistics.fmean(logs), overall, level, sweep_spread)


def _pooled_variance(baseline: SideFigure, candidate: SideFigure) -> float:
    """Return the variance within the two sides together; 0 where neither has two processes."""
    parts = [(side.num_processes - 1, side.log_variance) for side in (baseline, candidate)]
    total = sum(freedom for freedom, variance in parts if variance is not None)
    return sum(freedom * variance for freedom, variance in parts if variance is not None) / total if total else 0.0


def _overall(logs: Sequence[float], errors: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Return the squared standard error of the mean over the rows, and its degrees of freedom."""
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
        return Ratio(log_ratio=log, standard_error=None, degrees_of_freedom=0.0, half_width=None)
    within, freedom = error
    square = within + 2 * sweep_spread**2
    if sweep_spread and within:
        freedom *= (square / within) ** 2
    quantile = float(stdtrit(freedom, level))
    standard_error = math.sqrt(square)
    return Ratio(
        log_ratio=log,
        standard_error=standard_error,
        degrees_of_freedom=freedom,
        half_width=quantile * standard_error,
    )


def _exp(value: float) -> float:
    """Return e to the power of a value, or the largest power that is a number: two wild processes say no more."""
    return math.exp(min(value, LARGEST_LOG))
