"""Define the parts of a capacity plan, and choose among planned configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vnbench.analysis.models.certification import Verdict
from vnbench.analysis.models.epoch_time import EpochTime
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.run_time import RunTime
from vnbench.analysis.planning.spread import Finish, Interruptions
from vnbench.analysis.planning.worst_case_memory import WorstCaseMemory
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.batching.sizes import SizeArray
from vnbench.records.spec.axes import FLAG_FIELDS
from vnbench.records.spec.precisions import PRECISIONS

SnapshotRule = float | Literal["best", "epoch", "none"]
"""When a run takes snapshots: after this many seconds of work, at the best interval on average, after every epoch, or
never."""

Evidence = Literal["measured", "interpolated", "extrapolated", "forecast"]
"""``measured`` if this configuration was trained itself; ``interpolated`` if its passes lie within the timed sizes,
except a share of at most configurations.MAX_OUTSIDE; ``forecast`` if nothing was run; else ``extrapolated``."""

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
"""Levers of a configuration, from the cheapest change to the most costly: the first ones change least of what is
computed."""

TIE = 1.05
"""Ratio up to which forecast times are told to be equal; their brackets are many times as wide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The run to plan."""

    train_sizes_N2: SizeArray
    """Height and width of the training examples in pixels."""
    validation_sizes_N2: SizeArray | None
    """Height and width of the validation examples in pixels, visited after each epoch; None without validation."""
    worst_case: tuple[int, int]
    """Largest height and width in pixels, aligned."""
    num_epochs: int
    """Number of epochs."""
    batch_sizes: tuple[int, ...] | None
    """Allowed examples per optimizer step; None for those of the records."""
    num_workers: tuple[int, ...] | None
    """Allowed numbers of loader workers; None for all that were measured."""
    memory_bytes: float | None
    """Memory of the device; None for that of the measured device."""
    window_s: float | None
    """Available time in seconds; None for no limit."""
    interruptions: Interruptions
    """Interruptions of the run."""
    snapshots: SnapshotRule
    """When to take snapshots."""
    start_up_s: float
    """Seconds from the start of a process to its first step."""
    seed: int
    """Seed of the sampler's plans and of all draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Supply:
    """A measured loader for the passes of a configuration."""

    num_workers: int
    """Number of loader workers; 0 loads in the training process."""
    time_per_example: Estimate
    """Seconds per example of the loader alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A setting of all levers, with the time and memory of a run without interruptions."""

    levers: Mapping[str, Any]
    """Values of the levers by field name of the spec."""
    family: FamilyFit
    """Models of its family."""
    run: RunTime
    """Time of the run by parts."""
    supplies: tuple[Supply, ...]
    """Measured loaders, the fewest workers first."""
    evidence: Evidence
    """Whether its time was measured, interpolated or extrapolated."""
    worst_case: WorstCaseMemory
    """Worst-case memory."""
    power_w: float | None
    """Mean power of the device during measuring, in watts; None if unknown."""

    @property
    def need_bytes(self) -> float | None:
        """The worst-case memory in bytes; None if unknown."""
        return self.worst_case.need_bytes

    def supplied_by(self, supply: Supply, *, num_examples: int) -> Configuration:
        """Return the same configuration with another loader."""
        return replace(
            self,
            levers=dict(self.levers) | {"num_workers": supply.num_workers},
            run=replace(self.run, loading=supply.time_per_example * num_examples, has_workers=bool(supply.num_workers)),
        )

    def epoch_with(self, supply: Supply, *, num_examples: int) -> EpochTime[float]:
        """Return the time of an epoch with another loader."""
        return replace(
            self.run.epoch,
            loading_s=supply.time_per_example.value * num_examples,
            has_workers=bool(supply.num_workers),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun(Configuration):
    """A configuration with the finish of the run."""

    verdict: Verdict
    """Whether its worst case fits."""
    interval_s: float | None
    """Seconds of work between snapshots; None without snapshots."""
    finish: Finish
    """Finish of the run."""
    finish_without_snapshots: Finish
    """Finish without snapshots."""
    finish_per_epoch: Finish
    """Finish with a snapshot after every epoch."""

    @property
    def interval_steps(self) -> int | None:
        """The number of optimizer steps between snapshots; None without snapshots."""
        return None if self.interval_s is None else max(1, round(self.interval_s / self.run.step_s))


def recommend(runs: Iterable[PlannedRun]) -> PlannedRun | None:
    """Return the fastest run that fits; else the fastest that is tight; else the fastest unknown; else None."""
    runs = tuple(runs)
    for verdict in ("fits", "tight", "unknown"):
        able = [one for one in runs if one.verdict == verdict]
        if able:
            return fastest(able)
    return None


def fastest(runs: Sequence[PlannedRun]) -> PlannedRun:
    """Return the fastest run, of equally fast ones that of least memory.

    Forecasts that differ in precision and batch alone, and in time by at most TIE, are equally fast: the preferred
    precision wins, bf16 before fp16, whose loss must be scaled.

    Raises:
        ValueError: no runs.
    """
    best = min(runs, key=lambda one: (one.finish.p50, one.need_bytes or 0.0))
    if best.evidence != "forecast":
        return best
    may_differ = {"precision", "batch_size", "micro_batch_size"}
    tied = [
        one
        for one in runs
        if set(differing_settings(one, best)) <= may_differ and one.finish.p50 <= TIE * best.finish.p50
    ]
    return min(tied, key=lambda one: (PRECISIONS[one.levers["precision"]].preference, one.finish.p50))


def single_changes(runs: Iterable[PlannedRun], current: PlannedRun) -> tuple[tuple[str, PlannedRun], ...]:
    """Return (lever, configuration) for each configuration that differs from ``current`` in a single lever.

    They are sorted by CHEAPEST_FIRST, then by finish. A micro-batch that equals its batch does not count as a separate
    lever, and neither does the number of workers if another lever differs.
    """
    found = []
    for one in runs:
        different = differing_settings(one, current)
        if len(different) > 1 and "num_workers" in different:
            different.remove("num_workers")
        if len(different) == 1:
            found.append((different[0], one))
    return tuple(sorted(found, key=lambda pair: (CHEAPEST_FIRST.index(pair[0]), pair[1].finish.p50)))


def differing_settings(one: Configuration, other: Configuration) -> list[str]:
    """Return the levers in which two configurations differ, without a micro-batch that equals the batch on both."""
    found = [name for name in CHEAPEST_FIRST if one.levers[name] != other.levers[name]]
    follows = all(both.levers["batch_size"] == both.levers["micro_batch_size"] for both in (one, other))
    if follows and "batch_size" in found:
        found.remove("micro_batch_size")
    return found


def pareto_front(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Return the configurations for which no other is both faster and smaller in memory, the fastest first."""
    front: list[PlannedRun] = []
    known = [one for one in runs if one.need_bytes is not None]
    for one in sorted(known, key=lambda one: (one.finish.p50, one.need_bytes or 0.0)):
        if not front or (one.need_bytes or 0.0) < (front[-1].need_bytes or 0.0):
            front.append(one)
    return tuple(front)
