"""From axes to trials: which configurations a sweep measures, in which order, and which it leaves out."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vnbench.config import SweepConfig
from vnbench.errors import InputError
from vnbench.spec import REDUCED_PRECISIONS, Checkpointing, NormPrecision, Precision, SamplerName, TrialSpec


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

    @property
    def examples_per_pass(self) -> int:
        """The micro-batch size as a number."""
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size

    def __str__(self) -> str:
        return (
            f"batch {self.batch_size}, micro-batch {self.examples_per_pass}, {self.precision}, "
            f"norm {self.norm_precision}, checkpointing {self.checkpointing}, {self.sampler}, "
            f"{self.num_workers} workers"
        )


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


def make_design(config: SweepConfig, *, corpus_id: str, worst_case: tuple[int, int]) -> Design:
    """Return the cells and the trials of a sweep.

    Memory trials come first, each family's members by ascending micro-batch, so that what does not fit is known before
    anything is timed; within these bounds the order is random, drawn from the sweep's seed. ``worst_case`` is (height,
    width) in pixels.

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
    training = [_training_spec(cell, config, corpus_id) for cell in cells]
    memory = dict.fromkeys(_memory_spec(spec, worst_case) for spec in training)
    return Design(cells=cells, left_out=left_out, trials=tuple(_ordered(list(memory), training, config)))


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
    if cell.norm_precision == "input" and cell.precision not in REDUCED_PRECISIONS and _has_fp32_norm(config):
        return f"in {cell.precision} the norm's input is fp32 already"
    return None


def _has_fp32_norm(config: SweepConfig) -> bool:
    return "fp32" in config.axes.norm_precision


def _training_spec(cell: Cell, config: SweepConfig, corpus_id: str) -> TrialSpec:
    return TrialSpec(
        kind="training",
        device=config.device,
        model=config.model,
        task=config.task,
        batch_size=cell.batch_size,
        micro_batch_size=cell.examples_per_pass,
        precision=cell.precision,
        # One name for one thing: outside autocast both settings compute in fp32.
        norm_precision=cell.norm_precision if cell.precision in REDUCED_PRECISIONS else "fp32",
        checkpointing=cell.checkpointing,
        norm_groups=config.norm_groups,
        seed=config.seed,
        sampler=cell.sampler,
        num_workers=cell.num_workers,
        corpus_id=corpus_id,
        subset_size=config.subset_size,
        num_warm_up_steps=config.num_warm_up_steps,
    )


def _memory_spec(training: TrialSpec, worst_case: tuple[int, int]) -> TrialSpec:
    height, width = worst_case
    return dataclasses.replace(
        training,
        kind="memory",
        batch_size=training.micro_batch_size,
        worst_case_height=height,
        worst_case_width=width,
        sampler=None,
        num_workers=None,
        corpus_id=None,
        subset_size=None,
        num_warm_up_steps=None,
    )


def _ordered(memory: Sequence[TrialSpec], training: Sequence[TrialSpec], config: SweepConfig) -> Iterator[PlannedTrial]:
    generator = random.Random(config.seed)
    levers = sorted({spec.lever_key for spec in memory})
    generator.shuffle(levers)
    by_size = sorted(memory, key=lambda spec: (levers.index(spec.lever_key), spec.micro_batch_size))
    yield from (PlannedTrial(spec=spec, replicate=0) for spec in by_size)
    # Replicates are interleaved: all specs once, then all again, so that a drift of the machine meets all alike.
    for replicate in range(config.replicates):
        order = list(dict.fromkeys(training))
        generator.shuffle(order)
        yield from (PlannedTrial(spec=spec, replicate=replicate) for spec in order)
