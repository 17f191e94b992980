"""Estimate whether a machine became slower or faster during a sweep, from its repeated trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.units import SECONDS_PER_UNIT

SECONDS_PER_HOUR = SECONDS_PER_UNIT["h"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedFigure:
    """One figure of one process, with the time of its measurement."""

    time_s: float
    """Middle of the measured span, in seconds after the start of the sweep."""
    figure: Estimate
    """The figure, with its error over the steps of the process. It is a duration, so larger means slower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A straight line over time through the relative deviations of repeated trials from the mean of their spec."""

    reference_index: int
    """Index of the spec that ran most often, the reference."""
    reference: tuple[TimedFigure, ...]
    """Deviations of the reference's processes in time order: figure / mean of the spec - 1."""
    others: tuple[TimedFigure, ...]
    """The same for the processes of the other repeated specs."""
    per_hour: Estimate
    """Slope: relative increase of step time per hour; without an error if the points leave no degree of freedom."""
    length_s: float
    """Seconds from the start of the sweep to the last measurement."""
    residual: float | None
    """Relative standard deviation of the points about the line; None if the slope has no error."""

    @property
    def change(self) -> Estimate:
        """Relative increase of step time over length_s."""
        return self.per_hour * self.length_s / SECONDS_PER_HOUR

    @property
    def is_told_apart(self) -> bool:
        """Whether the slope's interval excludes zero."""
        half_width = self.per_hour.half_width
        return half_width is not None and abs(self.per_hour.value) > half_width

    def line_at(self, time_s: float) -> Estimate:
        """Return the value of the reference's line at a time."""
        hours = (time_s - fmean(point.time_s for point in self.reference)) / SECONDS_PER_HOUR
        tilted = self.per_hour * hours
        if self.residual is None or tilted.se is None:
            return tilted
        return replace(tilted, se=math.hypot(self.residual / math.sqrt(len(self.reference)), tilted.se))


def fit_drift(specs: Sequence[Sequence[TimedFigure]], *, length_s: float) -> Drift | None:
    """Return the line that fits the repeated specs best, each about its own mean; None without repetitions over time.

    This is ordinary least squares with one slope and a separate level for each spec. Specs with one process are left
    out. If several specs ran equally often, the first is the reference.
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
    """Return (hours after the mean hour of the spec, deviation) for each point."""
    mean_s = fmean(point.time_s for point in points)
    return [((point.time_s - mean_s) / SECONDS_PER_HOUR, point.figure.value) for point in points]
