"""From axes to trials: which configurations a sweep measures, in which order, and which it leaves out."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vnbench.config import SweepConfig
from vnbench.data.canvases import Size
from vnbench.errors import InputError
from vnbench.spec import (
    FLAG_FIELDS,
    REDUCED_PRECISIONS,
    Allocator,
    Checkpointing,
    Compile,
    CudnnBenchmark,
    MemoryFormat,
    NormPrecision,
    OptimizerLoop,
    Precision,
    SamplerName,
    TrialSpec,
)

REFERENCE_RUNS = 3
"""Runs of the reference trial where no other number is asked for: at the start, in the middle and at the end."""

MIN_SPECS_FOR_DRIFT = 4
"""Timed specs from which on the reference trial is repeated unasked: a shorter sweep ends before anything drifts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One combination of the axes' values."""

    batch_size: int
    """Examples per optimizer step."""
    micro_batch_size: int | None
    """Examples per pass; None for the whole batch."""
    precision: Precision
    """Arithmetic of convolutions and matrix products."""
    norm_precision: NormPrecision
    """Arithmetic of the norms."""
    checkpointing: Checkpointing
    """Which activations are recomputed."""
    sampler: SamplerName
    """How examples are grouped into batches."""
    num_workers: int
    """Loader processes."""
    memory_format: MemoryFormat = "contiguous"
    """Order of the numbers of a map in memory."""
    compile: Compile = "none"
    """Mode of torch.compile."""
    cudnn_benchmark: CudnnBenchmark = "off"
    """Whether cuDNN times its algorithms on each new shape."""
    allocator: Allocator = "native"
    """How the caching allocator takes memory from the driver."""
    optimizer: OptimizerLoop = "fused"
    """How the optimizer goes over the parameters."""

    @property
    def examples_per_pass(self) -> int:
        """The micro-batch size as a number."""
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size

    def __str__(self) -> str:
        flags = "".join(f", {name.replace('_', '-')} {value}" for name, value in self.changed_flags.items())
        return (
            f"batch {self.batch_size}, micro-batch {self.examples_per_pass}, {self.precision}, "
            f"norm {self.norm_precision}, checkpointing {self.checkpointing}, {self.sampler}, "
            f"{self.num_workers} workers{flags}"
        )

    @property
    def changed_flags(self) -> dict[str, str]:
        """The switches of torch that are not at their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: getattr(self, name) for name in FLAG_FIELDS if getattr(self, name) != defaults[name]}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTrial:
    """A spec and which repetition of it."""

    spec: TrialSpec
    """What to measure."""
    replicate: int
    """Which process of the same spec, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What a sweep will do."""

    cells: tuple[Cell, ...]
    """The configurations, the centre first."""
    left_out: tuple[str, ...]
    """Combinations that mean nothing or mean the same as another, each with its reason."""
    trials: tuple[PlannedTrial, ...]
    """All trials in the order in which they run."""


def make_design(config: SweepConfig, *, corpus_id: str, worst_case: Size, canvas_sizes: tuple[Size, ...]) -> Design:
    """Return the cells and the trials of a sweep.

    Memory trials come first, each family's members by ascending micro-batch, so that what does not fit is known before
    anything is timed; within these bounds the order is random, drawn from the sweep's seed. The reference trial, the
    centre's, is repeated at even steps among the timed ones. ``worst_case`` is (height, width) in pixels,
    ``canvas_sizes`` those of compute trials.

    Raises:
        InputError: nothing is left to measure.
    """
    candidates = list(dict.fromkeys(_full(config) if config.design == "full" else _one_at_a_time(config)))
    reasons = {cell: _reason_to_leave_out(cell, config) for cell in candidates}
    cells = tuple(cell for cell in candidates if reasons[cell] is None)
    left_out = tuple(f"{cell}: {reason}" for cell, reason in reasons.items() if reason is not None)
    if not cells:
        raise InputError(
            "the axes", allowed="no combination of their values can be measured", remedy="; ".join(left_out[:3])
        )
    # On the CPU memory is counted tensor by tensor, which compiled code makes and drops unseen.
    countable = [cell for cell in cells if config.device == "cuda" or cell.compile == "none"]
    memory = [_memory_spec(cell, config, worst_case) for cell in countable] if "memory" in config.kinds else []
    timed: list[TrialSpec] = []
    for cell in cells:
        if "training" in config.kinds:
            timed.append(_training_spec(cell, config, corpus_id))
        if "compute" in config.kinds:
            timed.append(_compute_spec(cell, config, canvas_sizes))
    generator = random.Random(config.seed)
    return Design(
        cells=cells,
        left_out=left_out,
        trials=(
            *_ordered_memory(list(dict.fromkeys(memory)), generator),
            *_ordered_timed(list(dict.fromkeys(timed)), config, generator),
        ),
    )


def _full(config: SweepConfig) -> Iterator[Cell]:
    values = dataclasses.asdict(config.axes)
    for combination in itertools.product(*values.values()):
        yield Cell(**dict(zip(values, combination, strict=True)))


def _one_at_a_time(config: SweepConfig) -> Iterator[Cell]:
    """Yield the centre, then each other value of each axis with the rest at the centre.

    Samplers differ only where a pass holds several examples. Where the centre's pass holds one, the sampler axis is
    varied at the smallest larger batch instead, against that batch's own cell.
    """
    center = _center(config)
    yield center
    for name in dataclasses.asdict(config.axes):
        for value in getattr(config.axes, name):
            base = _with_several_examples(center, config) if name == "sampler" else center
            yield dataclasses.replace(base, **{name: value})


def _center(config: SweepConfig) -> Cell:
    names = [axis.name for axis in dataclasses.fields(config.axes)]
    return Cell(**({name: getattr(config.axes, name)[0] for name in names} | dict(config.center)))


def _with_several_examples(center: Cell, config: SweepConfig) -> Cell:
    if center.examples_per_pass > 1:
        return center
    larger = [batch_size for batch_size in config.axes.batch_size if batch_size > 1]
    return dataclasses.replace(center, batch_size=min(larger), micro_batch_size=None) if larger else center


def _reason_to_leave_out(cell: Cell, config: SweepConfig) -> str | None:
    if cell.batch_size % cell.examples_per_pass:
        return f"a micro-batch of {cell.examples_per_pass} does not divide a batch of {cell.batch_size}"
    if cell.micro_batch_size == cell.batch_size and None in config.axes.micro_batch_size:
        return "the micro-batch is the batch, as in the cell with micro-batch same"
    if cell.precision == "tf32" and config.device == "cpu":
        return "TF32 is an arithmetic of NVIDIA GPUs"
    if config.device == "cpu" and (cuda_only := cell.changed_flags.keys() & {"cudnn_benchmark", "allocator"}):
        return f"{sorted(cuda_only)[0].replace('_', '-')} is a switch of CUDA"
    if cell.norm_precision == "input" and cell.precision not in REDUCED_PRECISIONS and _has_fp32_norm(config):
        return f"in {cell.precision} the norm's input is fp32 already"
    return None


def _has_fp32_norm(config: SweepConfig) -> bool:
    return "fp32" in config.axes.norm_precision


def _training_spec(cell: Cell, config: SweepConfig, corpus_id: str) -> TrialSpec:
    return TrialSpec(
        kind="training",
        batch_size=cell.batch_size,
        sampler=cell.sampler,
        num_workers=cell.num_workers,
        corpus_id=corpus_id,
        subset_size=config.subset_size,
        num_warm_up_steps=config.num_warm_up_steps,
        noise_target=config.noise_target,
        max_epochs=config.max_epochs,
        max_measuring_s=config.max_measuring_s,
        **_shared_fields(cell, config),
    )


def _compute_spec(cell: Cell, config: SweepConfig, canvas_sizes: tuple[Size, ...]) -> TrialSpec:
    return TrialSpec(
        kind="compute",
        batch_size=cell.examples_per_pass,
        canvas_sizes=canvas_sizes,
        num_warm_up_steps=config.num_warm_up_steps,
        noise_target=config.noise_target,
        min_steps=config.min_steps,
        max_steps=config.max_steps,
        max_measuring_s=config.max_measuring_s,
        **_shared_fields(cell, config),
    )


def _memory_spec(cell: Cell, config: SweepConfig, worst_case: Size) -> TrialSpec:
    height, width = worst_case
    return TrialSpec(
        kind="memory",
        batch_size=cell.examples_per_pass,
        worst_case_height=height,
        worst_case_width=width,
        **_shared_fields(cell, config),
    )


def _shared_fields(cell: Cell, config: SweepConfig) -> dict[str, Any]:
    """Return the fields that every kind of trial of a cell has in common, its batch apart."""
    return {
        "device": config.device,
        "model": config.model,
        "task": config.task,
        "micro_batch_size": cell.examples_per_pass,
        "precision": cell.precision,
        # One name for one thing: outside autocast both settings compute in fp32.
        "norm_precision": cell.norm_precision if cell.precision in REDUCED_PRECISIONS else "fp32",
        "checkpointing": cell.checkpointing,
        "norm_groups": config.norm_groups,
        "seed": config.seed,
        **cell.changed_flags,
    }


def _ordered_memory(specs: Sequence[TrialSpec], generator: random.Random) -> Iterator[PlannedTrial]:
    levers = sorted({spec.lever_key for spec in specs})
    generator.shuffle(levers)
    for spec in sorted(specs, key=lambda spec: (levers.index(spec.lever_key), spec.micro_batch_size)):
        yield PlannedTrial(spec=spec, replicate=0)


def _ordered_timed(specs: Sequence[TrialSpec], config: SweepConfig, generator: random.Random) -> Iterator[PlannedTrial]:
    """Yield all specs once, then all again, so that a drift of the machine meets all alike.

    The first spec is the reference: its runs lie at even steps, one of them first and one last.
    """
    num_reference_runs = config.replicates
    if config.reference_runs is not None or len(specs) >= MIN_SPECS_FOR_DRIFT:
        num_reference_runs = max(num_reference_runs, config.reference_runs or REFERENCE_RUNS)
    is_spread = num_reference_runs > 1
    others: list[PlannedTrial] = []
    for replicate in range(config.replicates):
        order = list(specs[1:] if is_spread else specs)
        generator.shuffle(order)
        others += [PlannedTrial(spec=spec, replicate=replicate) for spec in order]
    if not is_spread:
        yield from others
        return
    gaps = num_reference_runs - 1
    for run in range(num_reference_runs):
        yield PlannedTrial(spec=specs[0], replicate=run)
        yield from others[run * len(others) // gaps : (run + 1) * len(others) // gaps] if run < gaps else ()
