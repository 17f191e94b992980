"""What an epoch costs: money and energy from its time, and its time from the step times of measured canvases."""

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
    """One epoch of training. What cannot be told is None."""

    time: Estimate
    """Its wall clock in seconds."""
    cost: Estimate | None
    """Its price, in the currency of the price per hour."""
    energy_kwh: Estimate | None
    """Energy of the device in kWh. How exact the device's own power meter is stands in no interval."""


def cost_of_epoch(time: Estimate, *, price_per_hour: float | None, power_w: float | None) -> Epoch:
    """Return what an epoch costs that takes some seconds.

    ``price_per_hour`` is in any currency, ``power_w`` the mean power.
    """
    return Epoch(
        time=time,
        cost=None if price_per_hour is None else time * (price_per_hour / SECONDS_PER_UNIT["h"]),
        energy_kwh=None if power_w is None else time * (power_w / JOULES_PER_KWH),
    )


def split_by_range(canvases: Sequence[CanvasSummary], passes: Iterable[int]) -> tuple[list[int], list[int]]:
    """Return the passes whose padded pixels lie between those of measured canvases, ends included, and the others.

    The short last pass of an epoch may be smaller than every full micro-batch.
    """
    areas = [canvas.padded_pixels for canvas in canvases]
    inside: list[int] = []
    outside: list[int] = []
    for pixels in passes:
        (inside if areas and min(areas) <= pixels <= max(areas) else outside).append(pixels)
    return inside, outside


def time_of_passes(canvases: Iterable[CanvasSummary], passes: Sequence[int], *, spread: Spread | None) -> PooledFigure:
    """Return the seconds of an epoch's forward and backward passes, each of so many padded pixels.

    The step time between two measured canvases is taken on the straight line between them over padded pixels; canvases
    of equal pixels and different shape count with their mean. A measured step holds an optimizer's update, so under
    accumulation the time is too long by the updates that are left out. The epoch is a weighted sum of the canvases'
    times: their errors within a process are independent, what differs between processes is taken to shift all alike.
    How far the truth is from the straight lines stands in no interval.

    Raises:
        ValueError: no canvas, no pass, or passes that are smaller or larger than every canvas: nothing is extrapolated.
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
        weights[right - 1] += 1 - share  # of nothing where right is 0
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
