"""Estimate the spread between processes of one spec, and intervals that include it.

The steps of a process do not show what the next process would measure: memory layout, clocks and other programs stay
the same while it runs. So the variance of a figure has two parts, relative to the figure: w^2 within a process (the
squared standard error of its own mean) and sigma_b^2 between processes. Both are assumed equal for every spec of a
sweep. Drift of the machine counts as a part of sigma_b^2. The mean of m processes has the variance
(sigma_b^2 + w^2) / m, and the difference of two processes 2 (sigma_b^2 + w^2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from vnbench.analysis.statistics.estimate import Estimate, student_t, sum_of_variances


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """The spread of a figure between processes of one spec, pooled over the specs that ran several times."""

    relative: float
    """Observed standard deviation between processes, relative to their mean."""
    relative_within: float
    """Root mean square of the processes' own standard errors: the part of ``relative`` that their steps explain."""
    degrees_of_freedom: int
    """Degrees of freedom of ``relative``: number of processes minus number of specs."""
    num_specs: int
    """Number of specs with at least two processes."""
    num_processes: int
    """Number of processes of these specs."""

    @property
    def relative_between(self) -> float:
        """The part that steps do not explain: sqrt(relative^2 - relative_within^2), or 0 if that is not real."""
        return math.sqrt(max(0.0, self.relative**2 - self.relative_within**2))


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledFigure(Estimate):
    """The mean of a figure over the processes of one spec.

    Its error includes the spread between processes if ``relative_between`` is known.
    """

    num_processes: int
    """Number of processes in the mean."""
    relative_within: float | None
    """Root mean square of the processes' standard errors, relative to the figure; None if unknown."""
    within_dof: float
    """Degrees of freedom of relative_within; infinite if there are plenty."""
    relative_between: float | None
    """Further relative standard deviation between processes; None if no spec ran in two processes."""


def spread_of(specs: Iterable[Sequence[Sequence[Estimate]]]) -> Spread | None:
    """Return the pooled spread; None without repeats. ``specs`` holds for each spec its figures, each by process.

    A spec has one figure (time per pixel of a training trial) or several (one per canvas of a compute trial). The
    figures of one process are not independent, so a spec with n processes has n - 1 degrees of freedom for any number
    of figures, and the squares of its figures are averaged. An unknown error within a process counts as zero, so all of
    its spread counts as spread between processes.
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
    """Return the mean over the processes of one spec, with an error that includes the spread.

    Raises:
        ValueError: there are no processes.
    """
    if not processes:
        raise ValueError("a mean needs at least one process")
    known = [process for process in processes if process.se is not None]
    square, dof = _combined([(1 / len(known), process) for process in known])
    value = fmean(process.value for process in processes)
    within = Estimate(value=value, se=math.sqrt(square) * value if known else None, dof=dof)
    return mean_of_processes(within, spread=spread, num_processes=len(processes))


def mean_of_processes(within: Estimate, *, spread: Spread | None, num_processes: int = 1) -> PooledFigure:
    """Return the mean of several processes, given the mean with its error within one process.

    Without a spread, the error covers only the steps of these processes.
    """
    relative, dof = within.relative_error, within.dof
    if relative is None and spread is not None and num_processes > 1:
        # If the error within a process is unknown, take the spread's own.
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
    """Return the largest difference of two new trials of one spec in 95 % of cases, relative to their mean.

    It is sqrt(2) times the half-width of one trial, whose error ``within`` a process must be known. It is a prediction
    interval for trials that are not part of the spread.
    """
    assert within.relative_error is not None
    deviation, dof = _one_process(spread, within.relative_error, within.dof)
    return student_t(dof) * deviation * math.sqrt(2)


def _one_process(spread: Spread, within: float, within_dof: float) -> tuple[float, float]:
    """Return the relative standard deviation of one process's figure, and its degrees of freedom.

    The variance sigma_b^2 + w^2 is estimated as s^2 + max(0, w^2 - v^2), where s^2 is the observed variance of the
    spread and v^2 the part of it that steps explain. So a spec with noisier steps than those of the spread has a larger
    variance by the difference. For quieter steps nothing is subtracted: the small difference of uncertain numbers has
    few degrees of freedom, which would widen the interval by more than the subtraction narrows it. Without subtraction,
    s is exactly the standard deviation of Student's t if w = v. In simulations with three to twenty-one processes, and
    noise within them from a tenth to ten times the noise between them, 93.5 to 99 % of these intervals hold the truth.
    """
    added = max(0.0, within**2 - spread.relative_within**2)
    variance, dof = sum_of_variances([(spread.relative**2, spread.degrees_of_freedom), (added, within_dof)])
    return math.sqrt(variance), dof


def _relative_variance(processes: Sequence[Estimate]) -> float:
    """Return the variance of the processes' values over the square of their mean."""
    mean = fmean(process.value for process in processes)
    return math.fsum((process.value / mean - 1) ** 2 for process in processes) / (len(processes) - 1)


def _combined(parts: Iterable[tuple[float, Estimate]]) -> tuple[float, float]:
    """Return the weighted sum of squared relative errors (0 if unknown) and its degrees of freedom."""
    return sum_of_variances(
        [
            (weight * process.relative_error**2, process.dof)
            for weight, process in parts
            if process.relative_error is not None
        ]
    )
