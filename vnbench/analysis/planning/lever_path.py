"""Find the path from the plainest configuration to a goal, one lever at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vnbench.analysis.planning.capacity import CHEAPEST_FIRST, PlannedRun, differing_settings
from vnbench.records.spec.axes import FLAG_FIELDS

PLAIN: Mapping[str, Any] = {
    "precision": "fp32",
    "norm_precision": "fp32",
    "checkpointing": "none",
    "sampler": "random",
}
"""Values of the levers in a training script without any tuning; it also has the smallest batch and default switches."""

FOLLOWING = ("num_workers",)
"""Levers that do not count as steps: every configuration has the workers that it needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverStep:
    """One step of the path."""

    changes: Mapping[str, tuple[Any, Any]]
    """(old, new) value of each lever that changes; several levers if nothing in between was measured; empty at the
    start."""
    run: PlannedRun
    """Configuration after the step."""


def lever_path(runs: Sequence[PlannedRun], goal: PlannedRun) -> tuple[LeverStep, ...]:
    """Return the path from the plainest configuration to ``goal``, the largest saving of time first.

    Each step is a planned configuration that is not known to exceed the memory. The path is empty if the goal is the
    plainest configuration.
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
    """Return the sort key of a configuration; the plainest has the smallest."""
    unlike = sum(one.levers[name] != value for name, value in PLAIN.items() if name in one.levers)
    switched = sum(name in one.family.spec.canonical() for name in FLAG_FIELDS)
    return unlike + switched, one.levers["batch_size"], one.levers["micro_batch_size"], -one.finish.p50


def _differing(one: PlannedRun, other: PlannedRun) -> list[str]:
    return [name for name in differing_settings(one, other) if name not in FOLLOWING]


def _is_between(one: PlannedRun, here: PlannedRun, goal: PlannedRun) -> bool:
    """Return whether a configuration lies between two: each lever has its value here or at the goal."""
    return one is not here and all(
        one.levers[name] in (here.levers[name], goal.levers[name]) for name in CHEAPEST_FIRST if name not in FOLLOWING
    )
