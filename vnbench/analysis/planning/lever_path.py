"""The way from the plainest configuration to another, one lever after the other, and what each step buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vnbench.analysis.planning.capacity import CHEAPEST_FIRST, PlannedRun
from vnbench.records.spec.axes import FLAG_FIELDS

PLAIN: Mapping[str, Any] = {
    "precision": "fp32",
    "norm_precision": "fp32",
    "checkpointing": "none",
    "sampler": "random",
}
"""What a training script has before anybody thinks of its cost; beside it the smallest batch, and plain switches."""

FOLLOWING = ("num_workers",)
"""Levers that go with every configuration: it has the workers that it needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverStep:
    """One step of the way."""

    changes: Mapping[str, tuple[Any, Any]]
    """Levers that it changes, each from what to what; several where nothing between was measured. Empty at the
    start."""
    run: PlannedRun
    """Where it leads."""


def lever_path(runs: Sequence[PlannedRun], goal: PlannedRun) -> tuple[LeverStep, ...]:
    """Return the way from the plainest configuration to one, the largest saving of time first.

    Each step is a configuration that can be planned; one that does not fit is no step. Empty where the goal itself is
    the plainest.
    """
    able = [one for one in runs if one.verdict != "does not fit"]
    start = min(able, key=_plainness, default=goal)
    steps = [LeverStep(changes={}, run=start)]
    while different := _differing(steps[-1].run, goal):
        here = steps[-1].run
        nearer = [one for one in able if _is_between(one, here, goal) and len(_differing(one, goal)) < len(different)]
        fewest = min((len(_differing(here, one)) for one in nearer), default=len(different))
        nexts = [one for one in nearer if len(_differing(here, one)) == fewest] or [goal]
        best = min(nexts, key=lambda one: one.finish.p50)
        changes = {name: (here.levers[name], best.levers[name]) for name in _differing(here, best)}
        steps.append(LeverStep(changes=changes, run=best))
    return tuple(steps) if len(steps) > 1 else ()


def _plainness(one: PlannedRun) -> tuple[int, int, int, float]:
    """Return how far a configuration is from plain; the least comes first."""
    unlike = sum(one.levers[name] != value for name, value in PLAIN.items() if name in one.levers)
    switched = sum(name in one.family.spec.canonical() for name in FLAG_FIELDS)
    return unlike + switched, one.levers["batch_size"], one.levers["micro_batch_size"], -one.finish.p50


def _differing(one: PlannedRun, other: PlannedRun) -> list[str]:
    """Return the levers in which two configurations differ; a micro-batch that follows its batch is none."""
    found = [name for name in CHEAPEST_FIRST if name not in FOLLOWING and one.levers[name] != other.levers[name]]
    follows = all(run.levers["batch_size"] == run.levers["micro_batch_size"] for run in (one, other))
    if follows and "batch_size" in found:
        found.remove("micro_batch_size")
    return found


def _is_between(one: PlannedRun, here: PlannedRun, goal: PlannedRun) -> bool:
    """Return whether a configuration leads from one to another: each lever is as it was, or as it shall be."""
    return one is not here and all(
        one.levers[name] in (here.levers[name], goal.levers[name]) for name in CHEAPEST_FIRST if name not in FOLLOWING
    )
