"""The effect of each lever of a low-memory recipe, found by removing one lever at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec

Choice = tuple[str, str, str]
"""Precision, norm precision and checkpointing: the levers that decide a family's memory."""

PLAIN: Choice = ("fp32", "fp32", "none")
"""The configuration without levers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one configuration per worst-case example."""

    bytes_per_example: float
    """Memory of each further worst-case example."""
    largest_micro_batch: int
    """Number of examples that fit."""
    step_time_s: float | None
    """Seconds of a step on one worst-case example; None if not measured."""
    relative_half_width: float | None
    """Relative half-width of the step time's 95 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverCost:
    """A recipe without one of its levers, compared with the recipe."""

    lever: str
    """The removed lever."""
    choice: Choice
    """The remaining configuration."""
    without: Cost
    """Cost of that configuration."""
    saved_bytes: float
    """Memory per example that the lever saves in the recipe."""
    price_s_per_gib: float | None
    """Seconds of step time per GiB saved; negative if the lever saves time, too; None if a time is missing or nothing
    is
    saved."""
    price_half_width_s_per_gib: float | None
    """Half-width of the price's 95 % interval, from those of the two times."""


def choice_of(spec: TrialSpec) -> Choice:
    """Return the levers of a spec that decide its memory."""
    return (spec.precision, spec.norm_precision, spec.checkpointing)


def leanest(costs: Mapping[Choice, Cost]) -> Choice:
    """Return the configuration with the least memory per example.

    Raises:
        ValueError: ``costs`` is empty.
    """
    if not costs:
        raise ValueError("no configuration has a cost")
    return min(costs, key=lambda choice: costs[choice].bytes_per_example)


def take_levers_away(recipe: Choice, costs: Mapping[Choice, Cost]) -> tuple[LeverCost, ...]:
    """Return the cost of a recipe without each of its levers; configurations without a known cost are left out.

    Without a reduced precision, norm precision has no effect, so both are removed together.
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
