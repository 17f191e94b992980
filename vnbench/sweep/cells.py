"""The configurations that a sweep's axes make: which ones are worth measuring, and which are left out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vnbench.records.kind_fields import FLAG_FIELDS, LOADER_FIELDS
from vnbench.records.spec import (
    DEFAULT_PREFETCH_FACTOR,
    REDUCED_PRECISIONS,
    Allocator,
    Cache,
    Checkpointing,
    Compile,
    ImageFormat,
    MemoryFormat,
    NormKernel,
    NormPrecision,
    OnOff,
    OptimizerLoop,
    Padding,
    Precision,
    SamplerName,
    ShapeVisits,
    WorkerKind,
)
from vnbench.request.config import SweepConfig


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
    shapes: int | None = None
    """Different canvases, at most; None for as many as come up."""
    shape_visits: ShapeVisits = "auto"
    """Whether training has seen each canvas before it is timed."""
    memory_format: MemoryFormat = "contiguous"
    """Order of the numbers of a map in memory."""
    compile: Compile = "none"
    """What torch.compile compiles."""
    cudnn_benchmark: OnOff = "off"
    """Whether cuDNN times its algorithms on each new shape."""
    allocator: Allocator = "native"
    """How the caching allocator takes memory from the driver."""
    optimizer: OptimizerLoop = "fused"
    """How the optimizer goes over the parameters."""
    padding: Padding = "plain"
    """Whether norms and attention see padded pixels."""
    norm_groups: str = "half-or-16"
    """Rule for the groups of GroupNorm."""
    norm_kernel: NormKernel = "native"
    """Whether GroupNorm is torch's kernel or made of reductions."""
    cuda_graphs: OnOff = "off"
    """Whether the kernels of a pass are replayed as a graph."""
    worker_kind: WorkerKind = "processes"
    """What the loader's workers are."""
    prefetch_factor: int = DEFAULT_PREFETCH_FACTOR
    """Micro-batches ahead per loader worker."""
    pin_memory: OnOff = "on"
    """Whether batches go to the device through pinned memory."""
    persistent_workers: OnOff = "on"
    """Whether loader workers live on from epoch to epoch."""
    cache: Cache = "none"
    """Where decoded images are kept."""
    image_format: ImageFormat = "png"
    """Which files of the images are read."""

    @property
    def examples_per_pass(self) -> int:
        """The micro-batch size as a number."""
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size

    def __str__(self) -> str:
        changed = self.changed_flags | self.changed_loader
        flags = "".join(f", {name.replace('_', '-')} {value}" for name, value in changed.items())
        return (
            f"batch {self.batch_size}, micro-batch {self.examples_per_pass}, {self.precision}, "
            f"norm {self.norm_precision}, checkpointing {self.checkpointing}, {self.sampler}, "
            f"{self.num_workers} workers{self._held_to}{flags}"
        )

    @property
    def _held_to(self) -> str:
        shapes = "" if self.shapes is None else f", {self.shapes} shapes"
        visits = "" if self.shape_visits == "auto" else f", shape-visits {self.shape_visits}"
        groups = "" if self.norm_groups == "half-or-16" else f", norm groups {self.norm_groups}"
        return shapes + visits + groups

    @property
    def changed_flags(self) -> dict[str, str]:
        """The switches of torch that are not at their defaults."""
        return self._changed(FLAG_FIELDS)

    @property
    def changed_loader(self) -> dict[str, Any]:
        """The loader's switches that are not at their defaults."""
        return self._changed(LOADER_FIELDS)

    def _changed(self, names: Sequence[str]) -> dict[str, Any]:
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: getattr(self, name) for name in names if getattr(self, name) != defaults[name]}


def candidate_cells(config: SweepConfig) -> tuple[Cell, ...]:
    """Return the cells of the sweep's design, the centre of a one-at-a-time design first, each once."""
    return tuple(dict.fromkeys(full_cells(config) if config.design == "full" else _one_at_a_time(config)))


def full_cells(config: SweepConfig) -> Iterator[Cell]:
    """Yield the cells of the axes' whole product."""
    values = dataclasses.asdict(config.axes)
    for combination in itertools.product(*values.values()):
        yield Cell(**dict(zip(values, combination, strict=True)))


def _one_at_a_time(config: SweepConfig) -> Iterator[Cell]:
    """Yield the centre, then each other value of each axis with the rest at the centre, by what axes are worth.

    Samplers differ only where a pass holds several examples. Where the centre's pass holds one, the sampler axis is
    varied at the smallest larger batch instead, against that batch's own cell. What only loader workers have is varied
    at the smallest number of them where the centre has none.
    """
    center = center_of(config)
    yield center
    for name in sorted(dataclasses.asdict(config.axes), key=lambda name: _rank(name, config)):
        for value in getattr(config.axes, name):
            base = axis_base(name, center, config)
            yield _with_a_norm(dataclasses.replace(base, **{name: value}), config)


ORDER_OF_WORTH = ("precision", "checkpointing", "batch_size", "sampler", "num_workers", "norm_precision")
"""Axes in the order of what people ask, before all others: what comes first is measured where time is short."""


def _rank(name: str, config: SweepConfig) -> int:
    """Return the place of an axis: those asked for, then those of ORDER_OF_WORTH, then the rest."""
    order = [*config.asked, *ORDER_OF_WORTH]
    return order.index(name) if name in order else len(order)


def center_of(config: SweepConfig) -> Cell:
    """Return the cell that a one-at-a-time design varies from."""
    names = [axis.name for axis in dataclasses.fields(config.axes)]
    return Cell(**({name: getattr(config.axes, name)[0] for name in names} | dict(config.center)))


def _with_a_norm(cell: Cell, config: SweepConfig) -> Cell:
    """Return the cell that means what this one does: without a reduced precision the norm's input is fp32 already."""
    if cell.precision in REDUCED_PRECISIONS or not _has_fp32_norm(config):
        return cell
    return dataclasses.replace(cell, norm_precision="fp32")


def axis_base(name: str, center: Cell, config: SweepConfig) -> Cell:
    """Return the cell at which an axis is varied."""
    if name == "sampler":
        return _with_several_examples(center, config)
    if name in _OF_WORKERS and center.num_workers == 0:
        some = [number for number in config.axes.num_workers if number > 0]
        return dataclasses.replace(center, num_workers=min(some)) if some else center
    return center


def _with_several_examples(center: Cell, config: SweepConfig) -> Cell:
    if center.examples_per_pass > 1:
        return center
    larger = [batch_size for batch_size in config.axes.batch_size if batch_size > 1]
    return dataclasses.replace(center, batch_size=min(larger), micro_batch_size=None) if larger else center


def reason_to_leave_out(cell: Cell, config: SweepConfig, *, num_measured: int) -> str | None:
    """Return why a cell means nothing, or the same as another; None for one that is to be measured.

    ``num_measured`` is the number of training examples that a trial measures.
    """
    if cell.batch_size > num_measured and {"training", "loader"} & set(config.kinds):
        return f"a trial measures only {num_measured} training examples (--subset, --examples or --corpus)"
    if cell.batch_size % cell.examples_per_pass:
        return f"a micro-batch of {cell.examples_per_pass} does not divide a batch of {cell.batch_size}"
    if cell.micro_batch_size == cell.batch_size and None in config.axes.micro_batch_size:
        return "the micro-batch is the batch, as in the cell with micro-batch same"
    if cell.sampler == "step-sorted" and cell.examples_per_pass in (1, cell.batch_size):
        return "step-sorted is random itself where a pass holds one example or the whole batch"
    if cell.precision == "tf32" and config.device == "cpu":
        return "TF32 is an arithmetic of NVIDIA GPUs"
    if config.device == "cpu" and (cuda_only := cell.changed_flags.keys() & _OF_CUDA):
        return f"{sorted(cuda_only)[0].replace('_', '-')} is a switch of CUDA"
    if cell.cuda_graphs == "on" and cell.compile != "none":
        return "a compiled pass is not captured as a CUDA graph"
    if cell.cuda_graphs == "on" and cell.shapes is None and "training" in config.kinds:
        return "a CUDA graph serves one canvas: hold training to a number of them with --shapes"
    if cell.cuda_graphs == "on" and cell.shape_visits == "cold":
        return "a CUDA graph is captured before anything is timed, so that no shape is cold"
    if cell.shape_visits != "auto" and ("training" not in config.kinds or config.design == "factored"):
        return "shapes are visited in training trials, and not for forecasts"
    if cell.num_workers == 0 and (idle := cell.changed_loader.keys() & _OF_WORKERS):
        return f"without workers {sorted(idle)[0].replace('_', '-')} says nothing"
    if cell.worker_kind == "threads" and "persistent_workers" in cell.changed_loader:
        return "threads cost nothing to start: whether they persist says nothing"
    if config.device == "cpu" and "pin_memory" in cell.changed_loader:
        return "only copies to a GPU go through pinned memory"
    if cell.norm_precision == "input" and cell.precision not in REDUCED_PRECISIONS and _has_fp32_norm(config):
        return f"in {cell.precision} the norm's input is fp32 already"
    return None


_OF_CUDA = {"cudnn_benchmark", "allocator", "cuda_graphs"}

_OF_WORKERS = {"worker_kind", "prefetch_factor", "persistent_workers"}


def _has_fp32_norm(config: SweepConfig) -> bool:
    return "fp32" in config.axes.norm_precision
