"""The capacity plan: what is asked, what each configuration takes, and which of them to take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from vnbench.analysis.models.certification import Verdict
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.run_time import RunTime
from vnbench.analysis.planning.spread import Finish, Interruptions
from vnbench.analysis.planning.worst_case_memory import WorstCaseMemory
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.batching.sizes import SizeArray
from vnbench.records.spec.axes import FLAG_FIELDS

SnapshotRule = float | Literal["best", "epoch", "none"]
"""When a run takes snapshots: after so many seconds of work, where it is best in the mean, after every epoch, never."""

Evidence = Literal["measured", "interpolated", "extrapolated"]
"""``measured`` where this very configuration was trained, ``interpolated`` where all passes lie inside of the sizes
that were timed, else ``extrapolated``."""

CHEAPEST_FIRST = (
    "num_workers",
    "sampler",
    "checkpointing",
    *FLAG_FIELDS,
    "norm_precision",
    "precision",
    "micro_batch_size",
    "batch_size",
)
"""Levers of a configuration, those first that change least of what is computed: the order in which a change counts as
cheap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The run that is planned."""

    train_sizes_N2: SizeArray
    """Height and width in pixels of the training examples."""
    validation_sizes_N2: SizeArray | None
    """Of the examples that each epoch ends with; None for none."""
    worst_case: tuple[int, int]
    """Largest height and width in pixels, aligned."""
    num_epochs: int
    """Passes over the training examples."""
    batch_sizes: tuple[int, ...] | None
    """Examples per optimizer step; None for those of the records."""
    num_workers: tuple[int, ...] | None
    """Loader workers that there may be; None for as many as were measured."""
    memory_bytes: float | None
    """Memory of the device; None for that of the device that was measured."""
    window_s: float | None
    """Time that there is; None for any."""
    interruptions: Interruptions
    """What the run is interrupted by."""
    snapshots: SnapshotRule
    """When it takes snapshots."""
    start_up_s: float
    """From the start of a process to its first step."""
    seed: int
    """Of the sampler's plans and of all draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Supply:
    """A number of loader workers that was measured for the passes of a configuration."""

    num_workers: int
    """Workers beside the training process; 0 for none."""
    time_per_example: Estimate
    """Seconds in which they alone supply an example."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A setting of all levers, and what is known of a run with it, before anything interrupts it."""

    levers: Mapping[str, Any]
    """Its settings, by the names of spec fields."""
    family: FamilyFit
    """The trials that its computing was fitted to."""
    run: RunTime
    """Its parts."""
    supplies: tuple[Supply, ...]
    """What was measured of its loading, the fewest workers first."""
    evidence: Evidence
    """How far it was measured."""
    worst_case: WorstCaseMemory
    """Its worst-case memory."""
    power_w: float | None
    """Mean power of the device while it was measured; None where nothing told it."""

    @property
    def need_bytes(self) -> float | None:
        """Worst-case memory; None where unknown."""
        return self.worst_case.need_bytes

    def supplied_by(self, supply: Supply, *, num_examples: int) -> Configuration:
        """Return the same with another number of loader workers."""
        return replace(
            self,
            levers=dict(self.levers) | {"num_workers": supply.num_workers},
            run=replace(self.run, loading=supply.time_per_example * num_examples, has_workers=bool(supply.num_workers)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun(Configuration):
    """One configuration, and when the run finishes with it."""

    verdict: Verdict
    """Whether its worst case fits."""
    interval_s: float | None
    """Work between snapshots, in seconds; None for none at all."""
    finish: Finish
    """When it finishes."""
    finish_without_snapshots: Finish
    """When it would without snapshots."""
    finish_per_epoch: Finish
    """When it would with a snapshot after every epoch."""

    @property
    def interval_steps(self) -> int | None:
        """Optimizer steps between snapshots; None for no snapshots."""
        return None if self.interval_s is None else max(1, round(self.interval_s / self.run.step_s))


def recommend(runs: Iterable[PlannedRun]) -> PlannedRun | None:
    """Return the fastest that fits; where none does, the fastest that is tight, or of which nobody knows; or None."""
    runs = tuple(runs)
    for verdict in ("fits", "tight", "unknown"):
        able = [one for one in runs if one.verdict == verdict]
        if able:
            return min(able, key=lambda one: (one.finish.p50, one.need_bytes or 0.0))
    return None


def single_changes(runs: Iterable[PlannedRun], current: PlannedRun) -> tuple[tuple[str, PlannedRun], ...]:
    """Return the configurations that differ from one in a single lever, with its name, those of one lever together.

    A micro-batch that follows its batch, and the workers that a configuration needs, are no levers of their own.
    """
    found = []
    for one in runs:
        different = [name for name in CHEAPEST_FIRST if one.levers[name] != current.levers[name]]
        follows = all(run.levers["batch_size"] == run.levers["micro_batch_size"] for run in (one, current))
        if follows and "batch_size" in different:
            different.remove("micro_batch_size")
        if len(different) > 1 and "num_workers" in different:
            different.remove("num_workers")
        if len(different) == 1:
            found.append((different[0], one))
    return tuple(sorted(found, key=lambda pair: (CHEAPEST_FIRST.index(pair[0]), pair[1].finish.p50)))


def pareto_front(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Return the configurations of which no other is both faster and smaller, the fastest first."""
    front: list[PlannedRun] = []
    known = [one for one in runs if one.need_bytes is not None]
    for one in sorted(known, key=lambda one: (one.finish.p50, one.need_bytes or 0.0)):
        if not front or (one.need_bytes or 0.0) < (front[-1].need_bytes or 0.0):
            front.append(one)
    return tuple(front)
