"""Describe how step time departs from a constant cost per pixel or per step, and the likely cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vnbench.analysis.models.fit import FamilyFit

Cause = Literal["overhead", "kernel-efficiency", "quadratic-term", "none"]

NOTICEABLE = 0.05
"""Smallest relative change of seconds, or of operations per second, that is reported; below it a straight line is good
enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Linearity:
    """The departure of a family's step time from a constant cost per pixel."""

    overhead_ratio_smallest: float
    """Share of the step on the smallest canvas that does not depend on its pixels."""
    overhead_ratio_largest: float
    """The same for the largest canvas."""
    rate_ratio: float
    """Padded pixels per second on the largest canvas over those on the smallest."""
    flop_ratio: float | None
    """Operations per second on the largest canvas over those on the smallest; None if unknown."""
    slope_ratio: float
    """Seconds per further pixel at the large end over those at the small end; 1 for a line."""
    cause: Cause
    """The largest cause that can be distinguished: a fixed cost per step, kernels that are more efficient on larger
    maps, or a term in the square of the pixels, as in attention."""


def linearity_of(family: FamilyFit) -> Linearity:
    """Return the departure of a family's step time from a constant cost per pixel."""
    model = family.fit.model
    low, high = model.smallest_pixels, model.largest_pixels
    step = (high - low) / 100
    slopes = [model.time_s(low + step) - model.time_s(low), model.time_s(high) - model.time_s(high - step)]
    rates = [low / model.time_s(low), high / model.time_s(high)]
    overheads = [family.fit.overhead_ratio(low), family.fit.overhead_ratio(high)]
    flops = dict(family.flop_per_s)
    flop_ratio = flops[high] / flops[low] if low in flops and high in flops else None
    slope_ratio = slopes[1] / slopes[0] if slopes[0] > 0 else 1.0
    cause: Cause = "none"
    if slope_ratio > 1 + NOTICEABLE:
        cause = "quadratic-term" if model.form == "quadratic" else "kernel-efficiency"
    elif overheads[0] > NOTICEABLE:
        cause = "overhead"
    elif slope_ratio < 1 - NOTICEABLE or abs(rates[1] / rates[0] - 1) > NOTICEABLE:
        cause = "kernel-efficiency"
    return Linearity(
        overhead_ratio_smallest=overheads[0],
        overhead_ratio_largest=overheads[1],
        rate_ratio=rates[1] / rates[0],
        flop_ratio=flop_ratio,
        slope_ratio=slope_ratio,
        cause=cause,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCounting:
    """The error of counting steps only, over families that differ only in their micro-batch.

    It tests the published model: time = steps x cost per step, steps = examples / batch, one cost for all batches.
    """

    families: tuple[FamilyFit, ...]
    """The families, by ascending micro-batch."""
    pixels_per_example: float
    """Padded pixels per example at which they are compared, within the measured range of each family."""
    times_per_example_s: tuple[float, ...]
    """Seconds per example of each family by its own model."""
    counted_s: tuple[float, ...]
    """Seconds per example of each family by the best constant cost per step of the other families."""

    @property
    def errors(self) -> tuple[float, ...]:
        """Relative error for each family, left out in turn: counted / measured - 1."""
        return tuple(
            counted / measured - 1 for counted, measured in zip(self.counted_s, self.times_per_example_s, strict=True)
        )


def count_steps(families: Iterable[FamilyFit]) -> tuple[StepCounting, ...]:
    """Return the comparison for every lever key with fits at two or more micro-batches that share a size."""
    groups: dict[str, list[FamilyFit]] = {}
    for family in families:
        groups.setdefault(family.spec.lever_key, []).append(family)
    found = (_count(sorted(group, key=lambda one: one.spec.micro_batch_size)) for group in groups.values())
    return tuple(one for one in found if one is not None)


def _count(group: Sequence[FamilyFit]) -> StepCounting | None:
    if len(group) < 2:
        return None
    low = max(one.fit.model.smallest_pixels / one.spec.micro_batch_size for one in group)
    high = min(one.fit.model.largest_pixels / one.spec.micro_batch_size for one in group)
    if low > high:
        return None
    pixels = (low + high) / 2
    batches = [one.spec.micro_batch_size for one in group]
    steps_s = [one.fit.model.time_s(batch * pixels) for one, batch in zip(group, batches, strict=True)]
    counted = []
    for index, batch in enumerate(batches):
        others = [seconds for number, seconds in enumerate(steps_s) if number != index]
        # The constant c with the least squares of 1 - c / t.
        cost_s = sum(1 / s for s in others) / sum(1 / s**2 for s in others)
        counted.append(cost_s / batch)
    return StepCounting(
        families=tuple(group),
        pixels_per_example=pixels,
        times_per_example_s=tuple(seconds / batch for seconds, batch in zip(steps_s, batches, strict=True)),
        counted_s=tuple(counted),
    )
