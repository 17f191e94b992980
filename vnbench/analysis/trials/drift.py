"""Whether a machine got slower or faster in the course of a sweep, from the trials that it ran several times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from vnbench.analysis.statistics.estimate import Estimate

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedFigure:
    """One figure of one process, and when it was measured."""

    time_s: float
    """Middle of the measured span, in seconds after the sweep's start."""
    figure: Estimate
    """The figure, with its error over the steps of the process: of a whole trial a time, so that more is slower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A straight line through the deviations of repeated trials from their own means, against time."""

    reference_index: int
    """Which of the given specs ran most often."""
    reference: tuple[TimedFigure, ...]
    """Its processes, in the order of time, each over the mean of their spec, less one."""
    others: tuple[TimedFigure, ...]
    """Processes of the other repeated specs, in the order of time, each over the mean of its spec, less one."""
    per_hour: Estimate
    """Slope: share by which a step takes longer after an hour; without an error where the points leave no degree of
    freedom for one."""
    length_s: float
    """Seconds from the sweep's start to the last measurement."""
    residual: float | None
    """Standard deviation of the points about the line, relative; None where the slope has no error."""

    @property
    def change(self) -> Estimate:
        """Share by which a step takes longer after length_s."""
        return self.per_hour * self.length_s / SECONDS_PER_HOUR

    @property
    def is_told_apart(self) -> bool:
        """Whether the slope's interval leaves zero out."""
        half_width = self.per_hour.half_width
        return half_width is not None and abs(self.per_hour.value) > half_width

    def line_at(self, time_s: float) -> Estimate:
        """Return the reference's deviation on the line at a time."""
        hours = (time_s - fmean(point.time_s for point in self.reference)) / SECONDS_PER_HOUR
        tilted = self.per_hour * hours
        if self.residual is None or tilted.se is None:
            return tilted
        return replace(tilted, se=math.hypot(self.residual / math.sqrt(len(self.reference)), tilted.se))


def fit_drift(specs: Sequence[Sequence[TimedFigure]], *, length_s: float) -> Drift | None:
    """Return the line that fits the repeated specs best, each about its own mean; None where nothing was repeated.

    Ordinary least squares with a level of its own for every spec and one slope. Specs of one process say nothing and
    are left out; so is everything where all repetitions were measured at one time. Of equally often repeated specs the
    first is the reference.
    """
    repeated = [index for index, figures in enumerate(specs) if len(figures) > 1]
    repeated.sort(key=lambda index: len(specs[index]), reverse=True)
    groups = [_deviations(specs[index]) for index in repeated]
    centred = [_centred(points) for points in groups]
    square = math.fsum(hours * hours for rows in centred for hours, _ in rows)
    if square == 0:
        return None
    slope = math.fsum(hours * deviation for rows in centred for hours, deviation in rows) / square
    dof = sum(map(len, groups)) - len(groups) - 1
    residual = None
    if dof > 0:
        left = math.fsum((deviation - slope * hours) ** 2 for rows in centred for hours, deviation in rows)
        residual = math.sqrt(left / dof)
    return Drift(
        reference_index=repeated[0],
        reference=groups[0],
        others=tuple(sorted((point for points in groups[1:] for point in points), key=lambda point: point.time_s)),
        per_hour=Estimate(value=slope, se=None if residual is None else residual / math.sqrt(square), dof=dof),
        length_s=length_s,
        residual=residual,
    )


def _deviations(figures: Sequence[TimedFigure]) -> tuple[TimedFigure, ...]:
    mean = fmean(one.figure.value for one in figures)
    shares = [(one.time_s, one.figure / mean) for one in figures]
    points = [TimedFigure(time_s=time_s, figure=replace(share, value=share.value - 1)) for time_s, share in shares]
    return tuple(sorted(points, key=lambda point: point.time_s))


def _centred(points: Sequence[TimedFigure]) -> list[tuple[float, float]]:
    """Return hours about the mean hour of one spec, with the deviations."""
    mean_s = fmean(point.time_s for point in points)
    return [((point.time_s - mean_s) / SECONDS_PER_HOUR, point.figure.value) for point in points]
