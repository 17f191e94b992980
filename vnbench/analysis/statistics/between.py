"""What differs between processes of one spec: its size, and the intervals that hold it.

The steps of a process say nothing of what the next process would measure: memory layout, clocks and neighbours on the
machine stay the same while it runs. So the variance of a figure has two parts, taken relative to the figure and the
same for every spec of a sweep: w^2 within a process (the squared standard error of its own mean) and sigma_b^2 between
processes. Drift of the machine is part of the second; nothing is subtracted for it. The mean of m processes has the
variance (sigma_b^2 + w^2) / m, the difference of two processes 2 (sigma_b^2 + w^2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.special import stdtrit

from vnbench.analysis.statistics.means import CONFIDENCE


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessFigure:
    """One figure as one process measured it."""

    value: float
    """The figure, positive, in its own unit."""
    relative_error: float | None = None
    """Its standard error over the steps of the process, relative to it; None where one step or none tells it."""
    degrees_of_freedom: int | None = None
    """Of relative_error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How much a figure differs from process to process of one spec, pooled over the specs that ran several times."""

    relative: float
    """Standard deviation between processes, relative to their mean, as observed."""
    relative_within: float
    """Root mean square of the processes' own standard errors: the part of it that their steps explain."""
    degrees_of_freedom: int
    """Processes less specs: on how much ``relative`` rests."""
    num_specs: int
    """Specs with two processes or more."""
    num_processes: int
    """Their processes."""

    @property
    def relative_between(self) -> float:
        """The part that the steps do not explain: sqrt(relative^2 - relative_within^2), 0 where that is negative."""
        return math.sqrt(max(0.0, self.relative**2 - self.relative_within**2))


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledFigure:
    """A figure over the processes of one spec."""

    value: float
    """Mean over the processes, in the figure's own unit."""
    num_processes: int
    """Processes that it rests on."""
    relative_error: float | None
    """Standard error of the mean, relative to it, what differs between processes included where relative_between is
    known; None where it cannot be told."""
    degrees_of_freedom: float
    """On how much relative_error rests; infinite for plenty."""
    relative_within: float | None
    """Root mean square of the processes' standard errors, relative to the figure; None where none is known."""
    within_degrees_of_freedom: float | None
    """On how much relative_within rests."""
    relative_between: float | None
    """Standard deviation between processes beyond that, relative; None where no spec ran in two processes."""

    @property
    def relative_half_width(self) -> float | None:
        """Half-width of the two-sided 95 % interval of the mean, relative to it."""
        return None if self.relative_error is None else student_t(self.degrees_of_freedom) * self.relative_error

    @property
    def half_width(self) -> float | None:
        """relative_half_width in the figure's own unit."""
        return None if self.relative_half_width is None else self.relative_half_width * self.value


def spread_of(specs: Iterable[Sequence[Sequence[ProcessFigure]]]) -> Spread | None:
    """Return the spread over specs, each given as its figures and each figure as its processes; None without repeats.

    A spec has one figure (time per pixel of a training trial) or several (one per canvas of a compute trial). Those of
    one process are not independent of each other, so a spec counts n - 1 degrees of freedom for n processes, however
    many figures it has; the squares of the figures are averaged. An unknown error within a process counts as none,
    which leaves all of its spread between processes.
    """
    squares: list[float] = []
    freedoms: list[int] = []
    counts: list[int] = []
    within: list[tuple[float, ProcessFigure]] = []
    for figures in specs:
        repeated = [processes for processes in figures if len(processes) > 1]
        if not repeated:
            continue
        counts.append(max(map(len, repeated)))
        freedoms.append(counts[-1] - 1)
        squares.append(fmean(map(_relative_variance, repeated)))
        for processes in repeated:
            within += [(freedoms[-1] / (len(repeated) * len(processes)), process) for process in processes]
    total = sum(freedoms)
    if total == 0:
        return None
    pooled_square = math.fsum(n * square for n, square in zip(freedoms, squares, strict=True)) / total
    within_square, _ = _combined([(weight / total, process) for weight, process in within])
    return Spread(
        relative=math.sqrt(pooled_square),
        relative_within=math.sqrt(within_square),
        degrees_of_freedom=total,
        num_specs=len(counts),
        num_processes=sum(counts),
    )


def pooled(processes: Sequence[ProcessFigure], *, spread: Spread | None) -> PooledFigure:
    """Return the mean over the processes of one spec, with an interval that holds what the spread says.

    Raises:
        ValueError: no processes.
    """
    if not processes:
        raise ValueError("no processes have no mean")
    known = [process for process in processes if process.relative_error is not None]
    square, freedom = _combined([(1 / len(known), process) for process in known]) if known else (None, None)
    within = None if square is None else math.sqrt(square)
    known_within = within
    if within is None and spread is not None and len(processes) > 1:
        # Without an error of its own, what the spread explains by steps is left in.
        known_within = spread.relative_within
    error, error_freedom = mean_error(
        spread, within_relative_error=known_within, within_degrees_of_freedom=freedom, num_processes=len(processes)
    )
    return PooledFigure(
        value=fmean(process.value for process in processes),
        num_processes=len(processes),
        relative_error=error,
        degrees_of_freedom=error_freedom,
        relative_within=within,
        within_degrees_of_freedom=freedom,
        relative_between=spread.relative_between if spread else None,
    )


def mean_error(
    spread: Spread | None,
    *,
    within_relative_error: float | None,
    within_degrees_of_freedom: float | None = None,
    num_processes: int = 1,
) -> tuple[float | None, float]:
    """Return the standard error of the mean of processes, relative to it, and its degrees of freedom.

    ``within_degrees_of_freedom`` are those of the error within a process, None for plenty. Without a spread the error
    covers the steps of these processes only; where the error within a process is not known, nor is this one.
    """
    if within_relative_error is None:
        return None, math.inf
    deviation, freedom = within_relative_error, within_degrees_of_freedom or math.inf
    if spread is not None:
        deviation, freedom = _one_process(spread, within_relative_error, within_degrees_of_freedom)
    return deviation / math.sqrt(num_processes), freedom


def pair_half_width(
    spread: Spread, *, within_relative_error: float, within_degrees_of_freedom: float | None = None
) -> float:
    """Return by how much two further trials of one spec differ at most in 95 % of cases, relative to their mean.

    It is sqrt(2) times the half-width of one: a prediction interval, for trials that the spread does not rest on.
    """
    deviation, freedom = _one_process(spread, within_relative_error, within_degrees_of_freedom)
    return student_t(freedom) * deviation * math.sqrt(2)


def student_t(degrees_of_freedom: float) -> float:
    """Return the factor from standard error to half-width, also for degrees of freedom that are no whole number."""
    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))


def _one_process(spread: Spread, within: float, within_freedom: float | None) -> tuple[float, float]:
    """Return the standard deviation of one process's figure, relative, and its degrees of freedom.

    The variance sigma_b^2 + w^2 is estimated as s^2 + max(0, w^2 - v^2), with the spread's s^2 as observed and the v^2
    in it that steps explain: a spec with noisier steps than those of the spread is less certain by the difference. For
    quieter ones nothing is taken off. Their variance would be the small difference of uncertain numbers, and its few
    degrees of freedom would widen the interval by more than it narrows; without it, s is the standard deviation of
    Student's t itself where w = v. Degrees of freedom are Welch's and Satterthwaite's for the two parts (Satterthwaite,
    Biometrics Bulletin 2, 1946, page 110). Simulated with three to twenty-one processes and noise within them from a
    tenth to ten times that between: 93.5 to 99 % of such intervals hold the truth.
    """
    observed, added = spread.relative**2, max(0.0, within**2 - spread.relative_within**2)
    uncertainty = observed**2 / spread.degrees_of_freedom + added**2 / (within_freedom or math.inf)
    variance = observed + added
    return math.sqrt(variance), variance**2 / uncertainty if uncertainty > 0 else math.inf


def _relative_variance(processes: Sequence[ProcessFigure]) -> float:
    """Return the variance of the processes' values over the square of their mean."""
    mean = fmean(process.value for process in processes)
    return math.fsum((process.value / mean - 1) ** 2 for process in processes) / (len(processes) - 1)


def _combined(parts: Sequence[tuple[float, ProcessFigure]]) -> tuple[float, float | None]:
    """Return the weighted sum of squared relative errors, an unknown one as 0, and its degrees of freedom."""
    known = [
        (weight * process.relative_error**2, process.degrees_of_freedom)
        for weight, process in parts
        if process.relative_error is not None and process.degrees_of_freedom
    ]
    total = math.fsum(square for square, _ in known)
    uncertainty = math.fsum(square**2 / freedom for square, freedom in known)
    if uncertainty == 0:
        # Errors of zero are as sure as their observations are many.
        return total, float(sum(freedom for _, freedom in known)) or None
    return total, total**2 / uncertainty
