"""The configurations that a sweep's axes span, and the reasons to leave some out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from vnbench.batching.plan import BUDGETED_SAMPLER
from vnbench.records.spec.axes import AXES, COMPUTING_LEVERS, FLAG_FIELDS, LOADER_FIELDS
from vnbench.records.spec.levers import Levers
from vnbench.records.spec.precisions import PRECISIONS, REDUCED_PRECISIONS
from vnbench.records.spec.words import TRAINER_LOOPS
from vnbench.request.config import SweepConfig
from vnbench.units import count


class Cell(Levers):
    """One combination of the axes' values."""

    __slots__ = ()

    @property
    def examples_per_pass(self) -> int:
        """The micro-batch size as a number."""
        return self.batch_size if self.micro_batch_size is None else self.micro_batch_size

    def __str__(self) -> str:
        return (
            f"batch {self.batch_size}, micro-batch {self.examples_per_pass}, {self.precision}, "
            f"norm {self.norm_precision}, checkpointing {self.checkpointing}, {self.sampler}, "
            f"{count(self.num_workers or 0, 'worker')}{''.join(f', {phrase}' for phrase in self._changed_phrases())}"
        )

    def changed(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the levers in ``names`` that are not at their defaults, with their values."""
        return {name: getattr(self, name) for name in names if getattr(self, name) != AXES[name].default}

    def _changed_phrases(self) -> Iterator[str]:
        for name, value in self.changed(
            ("shapes", "shape_visits", "norm_groups", *FLAG_FIELDS, *LOADER_FIELDS)
        ).items():
            yield count(value, "shape") if name == "shapes" else f"{AXES[name].option} {value}"


def candidate_cells(config: SweepConfig) -> tuple[Cell, ...]:
    """Return the distinct cells of the sweep's design; in a one-at-a-time design, the centre comes first."""
    return tuple(dict.fromkeys(full_cells(config) if config.design == "full" else _one_at_a_time(config)))


def full_cells(config: SweepConfig) -> Iterator[Cell]:
    """Yield the cells of the full product of the axes."""
    for combination in itertools.product(*config.axes.values()):
        yield Cell(**dict(zip(config.axes, combination, strict=True)))


def _one_at_a_time(config: SweepConfig) -> Iterator[Cell]:
    """Yield the centre, then each other value of each axis with the rest at the centre, the most useful axes first.

    Samplers differ only if a pass holds several examples. If the centre's pass holds one, the sampler axis is varied at
    the smallest larger batch, and compared with that batch's own cell. If the centre has no loader workers, axes that
    need workers are varied at the smallest positive number of them.
    """
    center = center_of(config)
    yield center
    for name in sorted(config.axes, key=lambda name: _rank(name, config)):
        for value in config.axes[name]:
            base = axis_base(name, center, config)
            yield _with_a_norm(dataclasses.replace(base, **{name: value}), config)


ORDER_OF_WORTH = ("precision", "checkpointing", "batch_size", "sampler", "num_workers", "norm_precision")
"""The axes that people ask about most, in that order. They come before all others, in case time runs out."""


def _rank(name: str, config: SweepConfig) -> int:
    """Return the rank of an axis: axes that the user gave, then ORDER_OF_WORTH, then the rest."""
    order = [*config.asked, *ORDER_OF_WORTH]
    return order.index(name) if name in order else len(order)


def center_of(config: SweepConfig) -> Cell:
    """Return the cell that a one-at-a-time design varies from."""
    return Cell(**({name: values[0] for name, values in config.axes.items()} | dict(config.center)))


def _with_a_norm(cell: Cell, config: SweepConfig) -> Cell:
    """Return the equivalent cell with an fp32 norm: without a reduced precision the norm's input is already fp32."""
    if cell.precision in REDUCED_PRECISIONS or not _has_fp32_norm(config):
        return cell
    return dataclasses.replace(cell, norm_precision="fp32")


def axis_base(name: str, center: Cell, config: SweepConfig) -> Cell:
    """Return the cell at which an axis is varied."""
    if AXES[name].needs == "several examples":
        return _with_several_examples(center, config)
    if AXES[name].needs == "workers" and center.num_workers == 0:
        some = [number for number in config.axes["num_workers"] if number > 0]
        return dataclasses.replace(center, num_workers=min(some)) if some else center
    if AXES[name].needs == "Trainer" and center.loop not in TRAINER_LOOPS:
        trained = [loop for loop in config.axes["loop"] if loop in TRAINER_LOOPS]
        return dataclasses.replace(center, loop=trained[0]) if trained else center
    return center


def varied_batches(config: SweepConfig) -> tuple[int, ...]:
    """Return the examples per pass at which a factored design varies the levers of computing.

    These are the centre's, and the fewest and the most on the axes: a GPU that a small pass does not fill gains less
    from a faster precision than one that a large pass does.
    """
    center = center_of(config).examples_per_pass
    passes = [
        batch_size if micro_batch_size is None else min(micro_batch_size, batch_size)
        for batch_size in config.axes["batch_size"]
        for micro_batch_size in config.axes["micro_batch_size"]
    ]
    return tuple(dict.fromkeys((center, min(passes), max(passes))))


def interaction_cells(config: SweepConfig) -> tuple[Cell, ...]:
    """Return the cells that show what levers of computing do at the ``varied_batches`` other than the centre's."""
    center = center_of(config)
    cells = [
        _with_a_norm(dataclasses.replace(center, batch_size=size, micro_batch_size=None, **{name: value}), config)
        for size in varied_batches(config)[1:]
        for name in COMPUTING_LEVERS
        for value in config.axes[name]
    ]
    return tuple(dict.fromkeys(cells))


def _with_several_examples(center: Cell, config: SweepConfig) -> Cell:
    if center.examples_per_pass > 1:
        return center
    larger = [batch_size for batch_size in config.axes["batch_size"] if batch_size > 1]
    return dataclasses.replace(center, batch_size=min(larger), micro_batch_size=None) if larger else center


def reason_to_leave_out(cell: Cell, config: SweepConfig, *, num_measured: int) -> str | None:
    """Return why a cell is meaningless or equivalent to another; None for a cell to measure.

    ``num_measured`` is the number of training examples in a trial.
    """
    changed = [AXES[name] for name in cell.changed((*FLAG_FIELDS, *LOADER_FIELDS))]
    if cell.batch_size > num_measured and {"training", "loader", "snapshot"} & set(config.kinds):
        return f"a trial measures only {count(num_measured, 'training example')} (--subset, --examples or --corpus)"
    if cell.batch_size % cell.examples_per_pass:
        return f"a micro-batch of {cell.examples_per_pass} does not divide a batch of {cell.batch_size}"
    if cell.micro_batch_size == cell.batch_size and None in config.axes["micro_batch_size"]:
        return "the micro-batch is the batch, as with micro-batch same"
    if (why := _sampled_as_another(cell, config) or _not_of_a_framework(cell)) is not None:
        return why
    if config.device == "cpu" and PRECISIONS[cell.precision].is_cuda_only:
        return f"only NVIDIA GPUs have {cell.precision.upper()}"
    if config.device == "cpu" and (cuda_only := [lever for lever in changed if lever.is_cuda_only]):
        return f"{min(lever.option for lever in cuda_only)} has an effect only on CUDA"
    if (why := _not_repeated(cell, config)) is not None:
        return why
    if cell.shape_visits != "auto" and ("training" not in config.kinds or config.design == "factored"):
        return "only training trials visit shapes, and forecasts have none"
    if cell.num_workers == 0 and (idle := [lever for lever in changed if lever.needs == "workers"]):
        return f"{min(lever.option for lever in idle)} has no effect without workers"
    if cell.worker_kind == "threads" and cell.persistent_workers == "off":
        return "threads cost nothing to start: persistent-workers has no effect"
    if config.device == "cpu" and cell.pin_memory == "off":
        return "only copies to a GPU go through pinned memory"
    if cell.norm_precision == "input" and cell.precision not in REDUCED_PRECISIONS and _has_fp32_norm(config):
        return f"in {cell.precision} the norm's input is already fp32"
    return None


def _not_repeated(cell: Cell, config: SweepConfig) -> str | None:
    """Return why a cell's kernels cannot be captured and replayed, or repeat themselves; None if they can."""
    if cell.deterministic != "off" and cell.cudnn_benchmark == "on":
        return "cudnn-benchmark may choose another algorithm each time, so nothing is deterministic"
    if cell.cuda_graphs == "on" and cell.compile != "none":
        return "a compiled pass is not captured as a CUDA graph"
    if cell.cuda_graphs == "on" and cell.shapes is None and "training" in config.kinds:
        return "a CUDA graph serves one canvas: limit the number of canvases in training with --shapes"
    if cell.cuda_graphs == "on" and cell.shape_visits == "cold":
        return "a CUDA graph is captured before timing, so no shape is cold"
    return None


def _not_of_a_framework(cell: Cell) -> str | None:
    """Return why a framework cannot run a cell's steps, or runs them as another; None if neither holds."""
    if cell.loop not in TRAINER_LOOPS and cell.loop_features != AXES["loop_features"].default:
        return "loop-features are those of Lightning's Trainer: add --loop lightning"
    if cell.loop == "own":
        return None
    if cell.compile == "step" or cell.cuda_graphs == "on":
        return "a framework calls the network itself: only the own loop compiles or captures passes with their loss"
    if cell.loop == "lightning-automatic" and cell.sampler == BUDGETED_SAMPLER:
        return f"Lightning's automatic optimization updates after so many passes, and {cell.sampler} varies them"
    return None


def _sampled_as_another(cell: Cell, config: SweepConfig) -> str | None:
    """Return why a sampler makes the same passes as another; None if it does not."""
    if cell.sampler == "step-sorted" and cell.examples_per_pass in (1, cell.batch_size):
        return "step-sorted equals random when a pass holds one example or the whole batch"
    if config.design == "one-at-a-time" and cell.batch_size == 1 and cell.sampler != center_of(config).sampler:
        return "all samplers make the same passes of one image; add a larger --batch-size"
    return None


def _has_fp32_norm(config: SweepConfig) -> bool:
    return "fp32" in config.axes["norm_precision"]
