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

from vnbench.analysis.statistics.estimate import Estimate, student_t, sum_of_variances


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
class PooledFigure(Estimate):
    """Mean of a figure over the processes of one spec.

    What differs between processes is in its error where ``relative_between`` is known.
    """

    num_processes: int
    """Processes that it rests on."""
    relative_within: float | None
    """Root mean square of the processes' standard errors, relative to the figure; None where none is known."""
    within_dof: float
    """Degrees of freedom of relative_within; infinite for plenty."""
    relative_between: float | None
    """Standard deviation between processes beyond that, relative; None where no spec ran in two processes."""


def spread_of(specs: Iterable[Sequence[Sequence[Estimate]]]) -> Spread | None:
    """Return the spread over specs, each given as its figures and each figure as its processes; None without repeats.

    A spec has one figure (time per pixel of a training trial) or several (one per canvas of a compute trial). Those of
    one process are not independent of each other, so a spec counts n - 1 degrees of freedom for n processes, however
    many figures it has; the squares of the figures are averaged. An unknown error within a process counts as none,
    which leaves all of its spread between processes.
    """
    squares: list[float] = []
    freedoms: list[int] = []
    counts: list[int] = []
    within: list[tuple[float, Estimate]] = []
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


def pooled(processes: Sequence[Estimate], *, spread: Spread | None) -> PooledFigure:
    """Return the mean over the processes of one spec, with an interval that holds what the spread says.

    Raises:
        ValueError: no processes.
    """
    if not processes:
        raise ValueError("no processes have no mean")
    known = [process for process in processes if process.se is not None]
    square, dof = _combined([(1 / len(known), process) for process in known])
    value = fmean(process.value for process in processes)
    within = Estimate(value=value, se=math.sqrt(square) * value if known else None, dof=dof)
    return mean_of_processes(within, spread=spread, num_processes=len(processes))


def mean_of_processes(within: Estimate, *, spread: Spread | None, num_processes: int = 1) -> PooledFigure:
    """Return the mean of some processes, from its error within one of them.

    Without a spread its error covers the steps of these processes only.
    """
    relative, dof = within.relative_error, within.dof
    if relative is None and spread is not None and num_processes > 1:
        # Without an error of its own, what the spread explains by steps is left in.
        relative, dof = spread.relative_within, math.inf
    if relative is not None and spread is not None:
        relative, dof = _one_process(spread, relative, dof)
    return PooledFigure(
        value=within.value,
        se=None if relative is None else relative * within.value / math.sqrt(num_processes),
        dof=dof,
        num_processes=num_processes,
        relative_within=within.relative_error,
        within_dof=within.dof,
        relative_between=spread.relative_between if spread else None,
    )


def pair_half_width(spread: Spread, within: Estimate) -> float:
    """Return by how much two further trials of one spec differ at most in 95 % of cases, relative to their mean.

    It is sqrt(2) times the half-width of one, whose error ``within`` a process is known: a prediction interval, for
    trials that the spread does not rest on.
    """
    assert within.relative_error is not None
    deviation, dof = _one_process(spread, within.relative_error, within.dof)
    return student_t(dof) * deviation * math.sqrt(2)


def _one_process(spread: Spread, within: float, within_dof: float) -> tuple[float, float]:
    """Return the standard deviation of one process's figure, relative, and its degrees of freedom.

    The variance sigma_b^2 + w^2 is estimated as s^2 + max(0, w^2 - v^2), with the spread's s^2 as observed and the v^2
    in it that steps explain: a spec with noisier steps than those of the spread is less certain by the difference. For
    quieter ones nothing is taken off. Their variance would be the small difference of uncertain numbers, and its few
    degrees of freedom would widen the interval by more than it narrows; without it, s is the standard deviation of
    Student's t itself where w = v. Simulated with three to twenty-one processes and noise within them from a tenth to
    ten times that between: 93.5 to 99 % of such intervals hold the truth.
    """
    added = max(0.0, within**2 - spread.relative_within**2)
    variance, dof = sum_of_variances([(spread.relative**2, spread.degrees_of_freedom), (added, within_dof)])
    return math.sqrt(variance), dof


def _relative_variance(processes: Sequence[Estimate]) -> float:
    """Return the variance of the processes' values over the square of their mean."""
    mean = fmean(process.value for process in processes)
    return math.fsum((process.value / mean - 1) ** 2 for process in processes) / (len(processes) - 1)


def _combined(parts: Iterable[tuple[float, Estimate]]) -> tuple[float, float]:
    """Return the weighted sum of squared relative errors, an unknown one as 0, and its degrees of freedom."""
    return sum_of_variances(
        [
            (weight * process.relative_error**2, process.dof)
            for weight, process in parts
            if process.relative_error is not None
        ]
    )
