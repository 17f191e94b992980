"""Whether a machine got slower or faster in the course of a sweep, from the trials that it ran several times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from vnbench.analysis.statistics.estimate import student_t

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedFigure:
    """One figure of one process, and when it was measured."""

    time_s: float
    """Middle of the measured span, in seconds after the sweep's start."""
    value: float
    """The figure, positive; a time, so that more is slower."""
    relative_half_width: float | None = None
    """Half-width of its 95 % interval over the steps of the process, relative to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftPoint:
    """One process of a repeated spec, against its spec's mean."""

    time_s: float
    """Middle of the measured span, in seconds after the sweep's start."""
    deviation: float
    """Its figure over the mean of its spec, less one."""
    half_width: float | None
    """Half-width of the 95 % interval over the steps of the process, in the same unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A straight line through the deviations of repeated trials from their own means, against time."""

    reference_index: int
    """Which of the given specs ran most often."""
    reference: tuple[DriftPoint, ...]
    """Its processes, in the order of time."""
    others: tuple[DriftPoint, ...]
    """Processes of the other repeated specs, in the order of time."""
    per_hour: float
    """Slope: share by which a step takes longer after an hour."""
    half_width_per_hour: float | None
    """Half-width of the slope's two-sided 95 % interval; None where the points leave no degree of freedom for it."""
    length_s: float
    """Seconds from the sweep's start to the last measurement."""
    residual: float | None
    """Standard deviation of the points about the line, relative; None as half_width_per_hour."""
    degrees_of_freedom: int
    """Points less specs less one for the slope."""

    @property
    def change(self) -> float:
        """Share by which a step takes longer after length_s."""
        return self.per_hour * self.length_s / SECONDS_PER_HOUR

    @property
    def change_half_width(self) -> float | None:
        """Half-width of the 95 % interval of ``change``."""
        half_width = self.half_width_per_hour
        return None if half_width is None else half_width * self.length_s / SECONDS_PER_HOUR

    @property
    def is_told_apart(self) -> bool:
        """Whether the slope's interval leaves zero out."""
        return self.half_width_per_hour is not None and abs(self.per_hour) > self.half_width_per_hour

    def line_at(self, time_s: float) -> tuple[float, float | None]:
        """Return the reference's deviation on the line at a time, and the half-width of its 95 % interval."""
        hours = (time_s - fmean(point.time_s for point in self.reference)) / SECONDS_PER_HOUR
        if self.residual is None or self.half_width_per_hour is None:
            return self.per_hour * hours, None
        level = student_t(self.degrees_of_freedom) * self.residual / math.sqrt(len(self.reference))
        return self.per_hour * hours, math.hypot(level, self.half_width_per_hour * hours)


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
    freedom = sum(map(len, groups)) - len(groups) - 1
    residual = half_width = None
    if freedom > 0:
        left = math.fsum((deviation - slope * hours) ** 2 for rows in centred for hours, deviation in rows)
        residual = math.sqrt(left / freedom)
        half_width = student_t(freedom) * residual / math.sqrt(square)
    return Drift(
        reference_index=repeated[0],
        reference=groups[0],
        others=tuple(sorted((point for points in groups[1:] for point in points), key=lambda point: point.time_s)),
        per_hour=slope,
        half_width_per_hour=half_width,
        length_s=length_s,
        residual=residual,
        degrees_of_freedom=freedom,
    )


def _deviations(figures: Sequence[TimedFigure]) -> tuple[DriftPoint, ...]:
    mean = fmean(figure.value for figure in figures)
    points = [
        DriftPoint(
            time_s=figure.time_s,
            deviation=figure.value / mean - 1,
            half_width=None if figure.relative_half_width is None else figure.relative_half_width * figure.value / mean,
        )
        for figure in figures
    ]
    return tuple(sorted(points, key=lambda point: point.time_s))


def _centred(points: Sequence[DriftPoint]) -> list[tuple[float, float]]:
    """Return hours about the mean hour of one spec, with the deviations."""
    mean_s = fmean(point.time_s for point in points)
    return [((point.time_s - mean_s) / SECONDS_PER_HOUR, point.deviation) for point in points]
