"""The design of a sweep: its cells and its trials, in order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vnbench.analysis.trials.summary import latest_attempts
from vnbench.batching.alignment import align
from vnbench.batching.canvases import Size
from vnbench.batching.plan import BUDGETED_SAMPLER, PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.batching.soak import soak_passes
from vnbench.batching.transport import bytes_in_flight
from vnbench.batching.trial_epoch import plan_measured
from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.spec.axes import AXES, COMPUTING_LEVERS, LOADER_FIELDS
from vnbench.records.spec.precisions import REDUCED_PRECISIONS
from vnbench.records.spec.trial_spec import (
    OWN_LOOP,
    ComputeSpec,
    ForecastSpec,
    ImagesSpec,
    LoaderSpec,
    MemorySpec,
    ProbeSpec,
    SnapshotSpec,
    TrainingSpec,
    TrialSpec,
)
from vnbench.request.config import SweepConfig
from vnbench.request.shard import Shard
from vnbench.sweep.cells import Cell, candidate_cells, interaction_cells, reason_to_leave_out
from vnbench.sweep.order import PlannedTrial, ordered_memory, ordered_timed
from vnbench.units import count, format_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """Configurations and trials of a sweep."""

    cells: tuple[Cell, ...]
    """The configurations, the centre first."""
    left_out: tuple[str, ...]
    """Combinations that are meaningless or equivalent to another, each with its reason."""
    trials: tuple[PlannedTrial, ...]
    """All trials in the order of execution."""

    def own(self, records: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
        """Return the last attempt of each of its trials that has a record."""
        wanted = {(trial.spec.spec_id, trial.replicate) for trial in self.trials}
        return tuple(record for record in latest_attempts(records) if (record.spec_id, record.replicate) in wanted)


def make_design(
    config: SweepConfig,
    *,
    corpus_id: str,
    train_sizes_N2: SizeArray,
    worst_case: Size,
    canvas_sizes: tuple[Size, ...],
    shared_memory_bytes: int | None = None,
) -> Design:
    """Return the cells and the trials of a sweep.

    Memory trials come first, by ascending micro-batch within each family, so that configurations that do not fit are
    known before anything is timed. Otherwise the order is random, from the sweep's seed. The reference trial, which is
    the centre's, is repeated at even intervals among the timed trials. Under a time budget each configuration is timed
    once, in the order of the cells, before anything is repeated. Unless the user set ``memory_by``, a real step of the
    centre then confirms its traced memory.

    ``train_sizes_N2`` holds height and width of the training examples in pixels, ``worst_case`` the largest of each,
    ``canvas_sizes`` the canvases of compute trials. ``shared_memory_bytes`` is the free space of /dev/shm, None if it
    is unknown: trials whose loader workers need more are left out.

    Raises:
        InputError: nothing is left to measure.
    """
    num_measured = min(config.subset_size, len(train_sizes_N2))
    reasons = {cell: reason_to_leave_out(cell, config, num_measured=num_measured) for cell in candidate_cells(config)}
    cells = tuple(cell for cell, reason in reasons.items() if reason is None)
    left_out = tuple(f"{cell}: {reason}" for cell, reason in reasons.items() if reason is not None)
    if not cells:
        causes = list(dict.fromkeys(reason for reason in reasons.values() if reason is not None))
        axes = [f"--{AXES[name].option}" for name in config.asked if name in AXES]
        raise InputError(
            ", ".join(axes) or "the axes",
            allowed=f"no combination of the values can be measured ({'; '.join(causes[:3])})",
            remedy="write values that work together",
        )
    # On the CPU memory is counted tensor by tensor; those of compiled code cannot be seen.
    countable = [cell for cell in cells if config.device == "cuda" or cell.compile == "none"]
    memory: list[MemorySpec] = []
    if "memory" in config.kinds:
        for cell in countable:
            alone = memory_spec(cell, config, worst_case)
            memory += [alone] if "none" in config.soak else []
            memory += _soaked_specs(alone, cell, config, train_sizes_N2)
    timed: list[TrialSpec] = []
    for cell in cells:
        if "training" in config.kinds:
            timed.append(training_spec(cell, config, corpus_id, worst_case))
        if "compute" in config.kinds:
            timed.append(compute_spec(cell, config, canvas_sizes))
        if "loader" in config.kinds:
            timed.append(loader_spec(cell, config, corpus_id, worst_case))
        # What a snapshot costs follows from the network and its optimizer: the centre tells it, if not all are wanted.
        if "snapshot" in config.kinds and (cell == cells[0] or config.design == "full"):
            timed += snapshot_specs(cell, config, corpus_id, worst_case)
    if config.design == "factored":
        timed += [
            compute_spec(cell, config, canvas_sizes)
            for cell in interaction_cells(config)
            if reason_to_leave_out(cell, config, num_measured=num_measured) is None
        ]
    needs = {spec: _shared_memory_need(spec, train_sizes_N2) for spec in dict.fromkeys(timed)}
    if shared_memory_bytes is not None:
        too_large = {spec: need for spec, need in needs.items() if need > shared_memory_bytes}
        left_out += tuple(_no_room(spec, need, shared_memory_bytes) for spec, need in too_large.items())
        timed = [spec for spec in timed if spec not in too_large]
    if not timed and not memory:
        raise InputError("the axes", allowed="no trial is left to measure", remedy="; ".join(left_out[:3]))
    memory, timed = list(dict.fromkeys(memory)), list(dict.fromkeys(timed))
    trials = _ordered(memory, timed, config, centre=memory_spec(cells[0], config, worst_case))
    if config.shard is not None and not _families_of(config.shard, memory, timed):
        left_out += (f"share {config.shard}: no group of trials is left for it, only the reference trial",)
    return Design(cells=cells, left_out=left_out, trials=trials)


def _ordered(
    memory: Sequence[MemorySpec], timed: Sequence[TrialSpec], config: SweepConfig, *, centre: MemorySpec
) -> tuple[PlannedTrial, ...]:
    """Return the trials of a sweep, or those of a share of it, in their order; ``centre`` is the centre's memory trial.

    The reference trial is in every share. A share counts its processes on from those of the shares before it, so that
    none is another's double.
    """
    num_specs, shard = len(timed), config.shard
    if shard is not None:
        own = _families_of(shard, memory, timed)
        memory = [spec for spec in memory if spec.lever_key in own]
        timed = [spec for spec in timed if spec is timed[0] or _group_of(spec) in own]
    generator = random.Random(config.seed)
    confirming = []
    is_traced = any(spec.is_traced for spec in memory) and (shard is None or centre in memory)
    if "memory_by" not in config.asked and is_traced:
        confirming = [PlannedTrial(spec=replace(centre, memory_by="step"), replicate=0)]
    traced_or_run = tuple(ordered_memory(memory, generator))
    measured = list(ordered_timed(timed, config, generator, num_specs=num_specs))
    if shard is not None and timed:
        num_runs = sum(trial.spec == timed[0] for trial in measured)
        measured = [
            replace(trial, replicate=trial.replicate + (shard.number - 1) * num_runs)
            if trial.spec == timed[0]
            else trial
            for trial in measured
        ]
    # After the first process of each configuration.
    measured[len(timed) : len(timed)] = confirming
    return (*traced_or_run, *measured)


def _families_of(shard: Shard, memory: Sequence[MemorySpec], timed: Sequence[TrialSpec]) -> frozenset[str]:
    """Return the groups of trials that belong to a share; those of one group depend on each other's memory."""
    weights = Counter(spec.lever_key for spec in memory)
    weights.update(_group_of(spec) for spec in timed[1:])
    return shard.own(weights)


def _group_of(spec: TrialSpec) -> str:
    """Return the group of a timed trial: whose memory it needs; a loader trial needs that of no network."""
    return spec.family if spec.kind == "loader" else spec.lever_key


def training_spec(cell: Cell, config: SweepConfig, corpus_id: str, worst_case: Size) -> TrainingSpec:
    """Return the training trial of a cell."""
    return TrainingSpec(
        num_warm_up_steps=config.num_warm_up_steps,
        **_image_fields(cell, config, corpus_id, worst_case) | _visit_fields(cell, config),
        **_shared_fields(cell, config),
    )


def _visit_fields(cell: Cell, config: SweepConfig) -> dict[str, Any]:
    """Return the fields for cold or warm shapes. Settings that mean the same give the same fields."""
    if cell.shape_visits == "cold":
        return {"shape_visits": "cold", "max_epochs": 1}
    is_visited_anyhow = config.device == "cuda" or cell.compile != "none"
    return {"shape_visits": "warm"} if cell.shape_visits == "warm" and not is_visited_anyhow else {}


def loader_spec(cell: Cell, config: SweepConfig, corpus_id: str, worst_case: Size) -> LoaderSpec:
    """Return the loader trial of a cell. It has no network, so the network's levers have fixed values."""
    return LoaderSpec(
        device=config.device,
        model=config.model,
        model_id=config.model_id,
        task=config.task,
        classes=config.classes,
        micro_batch_size=cell.examples_per_pass,
        precision="fp32",
        norm_precision="fp32",
        checkpointing="none",
        seed=config.seed,
        **_image_fields(cell, config, corpus_id, worst_case),
    )


def snapshot_specs(cell: Cell, config: SweepConfig, corpus_id: str, worst_case: Size) -> list[SnapshotSpec]:
    """Return the snapshot trials of a cell, one for each way of writing."""
    shared = _image_fields(cell, config, corpus_id, worst_case) | _shared_fields(cell, config) | dict(OWN_LOOP)
    target = None if config.snapshot_target is None else str(config.snapshot_target.resolve())
    return [SnapshotSpec(snapshot_mode=mode, snapshot_target=target, **shared) for mode in config.snapshot_modes]


def _image_fields(cell: Cell, config: SweepConfig, corpus_id: str, worst_case: Size) -> dict[str, Any]:
    """Return the fields shared by the kinds of trial that read image files."""
    height, width = worst_case
    worst_case_pass = cell.examples_per_pass * align(height) * align(width)
    return {
        "batch_size": cell.batch_size,
        "sampler": cell.sampler,
        # So no pass exceeds the one for which the family's memory was measured.
        "pixel_budget": worst_case_pass if cell.sampler == BUDGETED_SAMPLER else None,
        "shapes": cell.shapes,
        "num_workers": cell.num_workers,
        "corpus_id": corpus_id,
        "mask_values": config.mask_values,
        "ignore_value": config.ignore_value,
        "subset_size": config.subset_size,
        "noise_target": config.noise_target,
        "max_epochs": config.max_epochs,
        "max_measuring_s": config.max_measuring_s,
        "cache_limit_bytes": config.cache_limit_bytes if cell.cache != "none" else None,
        **{name: getattr(cell, name) for name in LOADER_FIELDS},
    }


def compute_spec(cell: Cell, config: SweepConfig, canvas_sizes: tuple[Size, ...]) -> ComputeSpec:
    """Return the compute trial of a cell."""
    return ComputeSpec(
        batch_size=cell.examples_per_pass,
        canvas_sizes=canvas_sizes,
        num_warm_up_steps=config.num_warm_up_steps,
        noise_target=config.noise_target,
        min_steps=config.min_steps,
        max_steps=config.max_steps,
        max_measuring_s=config.max_measuring_s,
        **_shared_fields(cell, config),
    )


def probe_spec(cell: Cell, config: SweepConfig, canvas_sizes: tuple[Size, ...], **asked: Any) -> ProbeSpec:
    """Return the probe of a cell's network in fp32 without a memory limit; ``asked`` holds the probe's own fields."""
    shared = _shared_fields(cell, config) | {
        "precision": "fp32",
        "norm_precision": "fp32",
        "memory_limit_bytes": None,
        **OWN_LOOP,
    }
    return ProbeSpec(batch_size=cell.examples_per_pass, canvas_sizes=canvas_sizes, **shared, **asked)


def memory_spec(cell: Cell, config: SweepConfig, worst_case: Size) -> MemorySpec:
    """Return the worst-case memory trial of a cell."""
    height, width = worst_case
    return MemorySpec(
        batch_size=cell.examples_per_pass,
        worst_case_height=height,
        worst_case_width=width,
        memory_by=config.memory_by,
        **_shared_fields(cell, config),
    )


def forecast_spec(cell: Cell, config: SweepConfig, *, card: str, smallest: Size, worst_case: Size) -> ForecastSpec:
    """Return the forecast of a cell for a card, by its name: a whole optimizer step, all of its passes."""
    return ForecastSpec(
        batch_size=cell.batch_size,
        card=card,
        smallest_height=smallest[0],
        smallest_width=smallest[1],
        worst_case_height=worst_case[0],
        worst_case_width=worst_case[1],
        **_shared_fields(cell, config),
    )


def _soaked_specs(
    alone: MemorySpec, cell: Cell, config: SweepConfig, train_sizes_N2: SizeArray
) -> Iterator[MemorySpec]:
    """Yield a memory spec for each soak asked for; none if there are too few images for a pass."""
    if len(train_sizes_N2) < alone.micro_batch_size:
        return
    assert cell.sampler is not None
    worst_case_pass = alone.micro_batch_size * align(alone.worst_case_height) * align(alone.worst_case_width)
    plan = PlanConfig(
        sampler=cell.sampler,
        batch_size=alone.micro_batch_size,
        micro_batch_size=alone.micro_batch_size,
        pixel_budget=worst_case_pass if cell.sampler == BUDGETED_SAMPLER else None,
        shapes=cell.shapes,
        seed=config.seed,
    )
    for soak in config.soak:
        if soak != "none":
            passes = soak_passes(train_sizes_N2, plan, soak=soak)
            yield replace(alone, soak=soak, sampler=cell.sampler, soak_passes=passes)


def _shared_fields(cell: Cell, config: SweepConfig) -> dict[str, Any]:
    """Return the fields shared by all kinds of trial of a cell, except the batch."""
    return {
        "device": config.device,
        "model": config.model,
        "model_id": config.model_id,
        "task": config.task,
        "classes": config.classes,
        "micro_batch_size": cell.examples_per_pass,
        **{name: getattr(cell, name) for name in COMPUTING_LEVERS},
        # Outside autocast both settings compute in fp32, so they get one value.
        "norm_precision": cell.norm_precision if cell.precision in REDUCED_PRECISIONS else "fp32",
        "seed": config.seed,
        "memory_limit_bytes": config.memory_limit_bytes,
    }


def _shared_memory_need(spec: TrialSpec, train_sizes_N2: SizeArray) -> int:
    """Return the bytes of /dev/shm that a trial's loader workers need; 0 without worker processes."""
    if not isinstance(spec, ImagesSpec) or not spec.num_workers or spec.worker_kind != "processes":
        return 0
    return bytes_in_flight(
        plan_measured(spec, train_sizes_N2).padded_pixels_M,
        num_workers=spec.num_workers,
        prefetch_factor=spec.prefetch_factor,
    )


def _no_room(spec: TrialSpec, need_bytes: int, free_bytes: int) -> str:
    return (
        f"{spec.kind}, micro-batch {spec.micro_batch_size}, {spec.sampler}, {count(spec.num_workers or 0, 'worker')}: "
        f"the batches need {format_bytes(need_bytes)} of /dev/shm, which has {format_bytes(free_bytes)} free; enlarge "
        "it (docker run --shm-size), or write fewer --num-workers, a smaller --prefetch-factor or --worker-kind "
        "threads"
    )
