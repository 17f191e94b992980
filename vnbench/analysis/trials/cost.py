"""Compute the cost of an epoch: its time from the step times of measured canvases, then money and energy."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.process_spread import PooledFigure, Spread, mean_of_processes
from vnbench.analysis.trials.compute import CanvasSummary
from vnbench.units import SECONDS_PER_UNIT

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One epoch of training. Unknown values are None."""

    time: Estimate
    """Wall-clock time in seconds."""
    cost: Estimate | None
    """Price, in the currency of the price per hour."""
    energy_kwh: Estimate | None
    """Energy of the device in kWh. The interval does not include the error of the device's power meter."""


def cost_of_epoch(time: Estimate, *, price_per_hour: float | None, power_w: float | None) -> Epoch:
    """Return the cost of an epoch from its ``time`` in seconds.

    ``price_per_hour`` is in any currency; ``power_w`` is the mean power in watts.
    """
    return Epoch(
        time=time,
        cost=None if price_per_hour is None else time * (price_per_hour / SECONDS_PER_UNIT["h"]),
        energy_kwh=None if power_w is None else time * (power_w / JOULES_PER_KWH),
    )


def split_by_range(canvases: Sequence[CanvasSummary], passes: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the passes within the padded pixels of the measured canvases, ends included, and the other passes.

    The short last pass of an epoch may be smaller than every full micro-batch.
    """
    areas = [canvas.padded_pixels for canvas in canvases]
    inside: list[int] = []
    outside: list[int] = []
    for pixels in passes:
        (inside if areas and min(areas) <= pixels <= max(areas) else outside).append(pixels)
    return inside, outside


def time_of_passes(canvases: Iterable[CanvasSummary], passes: Sequence[int], *, spread: Spread | None) -> PooledFigure:
    """Return the seconds of an epoch's forward and backward passes; ``passes`` holds the padded pixels of each.

    Step times are interpolated linearly over padded pixels between measured canvases; canvases of equal pixels and
    different shape count with their mean. A measured step includes an optimizer update, so with accumulation the time
    is too long by the updates that do not happen. The epoch is a weighted sum of the canvases' times. Their errors
    within a process are taken as independent; the spread between processes is taken to shift all of them alike. The
    interval does not include the error of the interpolation.

    Raises:
        ValueError: there are no canvases or passes, or a pass is smaller or larger than every canvas.
    """
    points = _points(canvases)
    if not points or not passes:
        raise ValueError("an epoch needs measured canvases and passes")
    low, high = points[0].padded_pixels, points[-1].padded_pixels
    outside = [pixels for pixels in passes if not low <= pixels <= high]
    if outside:
        raise ValueError(f"{len(outside)} of {len(passes)} passes lie outside the measured {low:g} to {high:g} pixels")
    areas = [point.padded_pixels for point in points]
    weights = [0.0] * len(points)
    for pixels in passes:
        right = bisect_left(areas, pixels)
        share = (pixels - areas[right - 1]) / (areas[right] - areas[right - 1]) if right else 1.0
        weights[right] += share
        weights[right - 1] += 1 - share  # adds 0 if right is 0
    used = [(weight, point) for weight, point in zip(weights, points, strict=True) if weight]
    errors = [weight * point.within.se for weight, point in used if point.within.se is not None]
    within = Estimate(
        value=math.fsum(weight * point.within.value for weight, point in used),
        se=math.hypot(*errors) if len(errors) == len(used) else None,
        # The sum has at least the degrees of freedom of its least known part.
        dof=min(point.within.dof for _, point in used),
    )
    return mean_of_processes(within, spread=spread, num_processes=min(point.num_processes for _, point in used))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    padded_pixels: float
    within: Estimate
    num_processes: int


def _points(canvases: Iterable[CanvasSummary]) -> list[_Point]:
    """Return one point per number of padded pixels, ascending."""

    def area(canvas: CanvasSummary) -> float:
        return canvas.padded_pixels

    points: list[_Point] = []
    for pixels, group in groupby(sorted(canvases, key=area), key=area):
        times = [canvas.step_time for canvas in group]
        errors = [time.relative_within * time.value for time in times if time.relative_within is not None]
        points.append(
            _Point(
                padded_pixels=pixels,
                within=Estimate(
                    value=fmean(time.value for time in times),
                    se=math.hypot(*errors) / len(times) if len(errors) == len(times) else None,
                    dof=min(time.within_dof for time in times),
                ),
                num_processes=min(time.num_processes for time in times),
            )
        )
    return points
