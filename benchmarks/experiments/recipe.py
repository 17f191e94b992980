"""What each lever of a recipe for little memory buys, found by taking one away at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec

Choice = tuple[str, str, str]
"""Precision, norm precision and checkpointing: the levers of a family's memory."""

PLAIN: Choice = ("fp32", "fp32", "none")
"""The configuration without any lever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one configuration costs at the worst case, per example."""

    bytes_per_example: float
    """Memory that each further example of the worst case takes."""
    largest_micro_batch: int
    """Examples that fit."""
    step_time_s: float | None
    """Seconds of a step on one worst-case example; None where it was not measured."""
    relative_half_width: float | None
    """Half-width of its 95 % interval, relative to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverCost:
    """A recipe without one of its levers, beside the recipe."""

    lever: str
    """What was taken away."""
    choice: Choice
    """The configuration that is left."""
    without: Cost
    """What that costs."""
    saved_bytes: float
    """Memory per example that the lever saves in the recipe."""
    price_s_per_gib: float | None
    """Seconds of step time that each GiB saved costs; negative where the lever saves time as well; None where a time
    is missing or nothing is saved."""
    price_half_width_s_per_gib: float | None
    """Half-width of its 95 % interval, from those of the two times."""


def choice_of(spec: TrialSpec) -> Choice:
    """Return the levers of a spec that its memory depends on."""
    return (spec.precision, spec.norm_precision, spec.checkpointing)


def leanest(costs: Mapping[Choice, Cost]) -> Choice:
    """Return the configuration that takes the least memory per example.

    Raises:
        ValueError: there is none.
    """
    if not costs:
        raise ValueError("no configuration has a cost")
    return min(costs, key=lambda choice: costs[choice].bytes_per_example)


def take_levers_away(recipe: Choice, costs: Mapping[Choice, Cost]) -> tuple[LeverCost, ...]:
    """Return, for each lever of a recipe, what the recipe costs without it; configurations without a cost are left out.

    Without a reduced precision the norm has nothing to keep narrow, so that lever goes with it.
    """
    found: list[LeverCost] = []
    for lever, choice in _without_each(recipe):
        if choice in costs:
            found.append(_compare(lever, choice, with_it=costs[recipe], without=costs[choice]))
    return tuple(found)


def _without_each(recipe: Choice) -> Sequence[tuple[str, Choice]]:
    precision, norm_precision, checkpointing = recipe
    without: list[tuple[str, Choice]] = []
    if checkpointing != PLAIN[2]:
        without.append((f"checkpointing {checkpointing}", (precision, norm_precision, PLAIN[2])))
    if norm_precision != PLAIN[1]:
        without.append(("norm in input precision", (precision, PLAIN[1], checkpointing)))
    if precision in REDUCED_PRECISIONS:
        without.append((precision, (PLAIN[0], PLAIN[1], checkpointing)))
    return without


def _compare(lever: str, choice: Choice, *, with_it: Cost, without: Cost) -> LeverCost:
    saved_bytes = without.bytes_per_example - with_it.bytes_per_example
    price = half_width = None
    if with_it.step_time_s is not None and without.step_time_s is not None and saved_bytes > 0:
        gib = saved_bytes / 2**30
        price = (with_it.step_time_s - without.step_time_s) / gib
        widths = [
            None if cost.relative_half_width is None else cost.relative_half_width * (cost.step_time_s or 0.0)
            for cost in (with_it, without)
        ]
        known = [width for width in widths if width is not None]
        half_width = math.hypot(*known) / gib if len(known) == len(widths) else None
    return LeverCost(
        lever=lever,
        choice=choice,
        without=without,
        saved_bytes=saved_bytes,
        price_s_per_gib=price,
        price_half_width_s_per_gib=half_width,
    )
