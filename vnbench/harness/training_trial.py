"""Training on image files, timed: warm-up steps, then one epoch of the subset that all trials share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vnbench.data.batching import BatchPlan, account_for_sampler, align, plan_epoch
from vnbench.data.collate import Batch, blank_batch
from vnbench.data.corpus import Corpus, load_corpus
from vnbench.data.loader import make_loader
from vnbench.data.subset import choose_subset
from vnbench.errors import CorpusError
from vnbench.harness.soundness import checked_loss, memory_warnings, step_warnings
from vnbench.harness.step import OptimizerStep, StepResult, build_step
from vnbench.harness.task import TrialTask
from vnbench.measure.memory import cuda_memory, process_memory, reset_cuda_peaks
from vnbench.measure.timing import PhaseTimes, StepTimer, make_timer
from vnbench.record import STEP_COLUMNS, Block, TrialRecord
from vnbench.spec import TrialSpec

MEASURED_EPOCH = 1
"""Epoch of the subset that is measured; warm-up takes its steps from epoch 0."""

PlannedStep = tuple[tuple[int, ...], ...]
"""Micro-batches of example indices."""


def measure_training(task: TrialTask, record: TrialRecord) -> TrialRecord:
    """Return the record with the steps of one epoch of the subset, warm-up steps before it."""
    spec = task.spec
    assert spec.sampler is not None
    assert spec.num_workers is not None
    assert spec.subset_size is not None
    assert spec.num_warm_up_steps is not None
    corpus = _load_the_corpus(task)
    device = torch.device(spec.device)
    train_sizes = corpus.sizes_N2[corpus.train_indices]
    chosen = corpus.train_indices[choose_subset(train_sizes, subset_size=spec.subset_size)]
    warm_up = _warm_up_steps(_plan(spec, corpus, chosen, epoch=0), corpus.sizes_N2, count=spec.num_warm_up_steps)
    measured = _plan(spec, corpus, chosen, epoch=MEASURED_EPOCH).steps
    batching = account_for_sampler(
        train_sizes,
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        seed=spec.seed,
    )
    record = replace(record, batching=batching)

    step = build_step(spec, device=device)
    if device.type == "cuda":
        _visit_shapes(step, measured, corpus.sizes_N2)
    steps = (*warm_up, *measured)
    loader = make_loader(
        corpus,
        [micro_batch for planned in steps for micro_batch in planned],
        num_workers=spec.num_workers,
        pin_memory=device.type == "cuda",
        num_classes=spec.num_classes,
    )
    batches: Iterator[Batch] = iter(loader)
    warm_up_times, _, warm_up_results = _run_block(step, batches, warm_up, timer=make_timer(device))
    num_retries_before = reset_cuda_peaks(device) if device.type == "cuda" else 0
    measured_times, wall_time_s, results = _run_block(step, batches, measured, timer=make_timer(device))
    memory = cuda_memory(device, num_retries_before=num_retries_before) if device.type == "cuda" else process_memory()

    is_skipped = _skipped_by_scaler([*warm_up_results, *results])
    losses = [float(result.loss) for result in (*warm_up_results, *results)]
    columns = _shape_columns(steps, corpus.sizes_N2)
    columns["is_warm_up"] = [True] * len(warm_up) + [False] * len(measured)
    columns |= {name: warm_up_times[name] + measured_times[name] for name in measured_times}
    columns["loss"] = [loss if math.isfinite(loss) else None for loss in losses]
    columns["is_skipped_by_scaler"] = is_skipped
    record = replace(
        record,
        steps={name: tuple(columns[name]) for name in STEP_COLUMNS},
        block=_block(columns, wall_time_s),
        memory=memory,
        warnings=tuple(memory_warnings(memory)) + tuple(step_warnings(is_skipped[len(warm_up) :])),
    )
    return checked_loss(record, losses, is_skipped=is_skipped)


def _visit_shapes(step: OptimizerStep, steps: Sequence[PlannedStep], sizes_N2: NDArray[np.int64]) -> None:
    """Run one pass over each canvas of some steps, largest first, on blank paper and without an update.

    On CUDA the first pass over a shape pays for its plans: a quarter of a second and more. Which share of the measured
    steps would be a first one depends on batch and sampler, so without this they could not be compared.
    """
    shapes = {
        (len(micro_batch), *_canvas(micro_batch, sizes_N2)) for micro_batches in steps for micro_batch in micro_batches
    }
    timer = make_timer(step.device)
    for num_examples, height, width in sorted(shapes, key=math.prod, reverse=True):
        step.visit(blank_batch(num_examples, height=height, width=width), timer=timer)


def _load_the_corpus(task: TrialTask) -> Corpus:
    assert task.corpus_directory is not None
    corpus = load_corpus(task.corpus_directory)
    if corpus.corpus_id != task.spec.corpus_id:
        raise CorpusError(
            f"{task.corpus_directory}: the corpus changed since the sweep was planned "
            f"({task.spec.corpus_id} then, {corpus.corpus_id} now); start the sweep again"
        )
    return corpus


def _plan(spec: TrialSpec, corpus: Corpus, chosen: NDArray[np.int64], *, epoch: int) -> BatchPlan:
    """Return the plan of one epoch of the chosen examples, in indices of the corpus."""
    assert spec.sampler is not None
    plan = plan_epoch(
        corpus.sizes_N2[chosen],
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        seed=spec.seed,
        epoch=epoch,
    )
    return BatchPlan(
        steps=tuple(
            tuple(tuple(int(chosen[index]) for index in micro_batch) for micro_batch in step) for step in plan.steps
        )
    )


def _warm_up_steps(plan: BatchPlan, sizes_N2: NDArray[np.int64], *, count: int) -> tuple[PlannedStep, ...]:
    """Return ``count`` steps of a plan, the one with the largest canvas first.

    The largest canvas makes the allocator (or the heap) take at once what it will need; ascending ones would make it
    ask again and again, inside the measured block too.
    """

    def largest_canvas(step: PlannedStep) -> int:
        return max(_canvas_pixels(micro_batch, sizes_N2) for micro_batch in step)

    ordered = sorted(plan.steps, key=largest_canvas, reverse=True)
    return tuple(ordered[i % len(ordered)] for i in range(count))


def _canvas(micro_batch: Sequence[int], sizes_N2: NDArray[np.int64]) -> tuple[int, int]:
    height, width = sizes_N2[list(micro_batch)].max(axis=0)
    return align(int(height)), align(int(width))


def _canvas_pixels(micro_batch: Sequence[int], sizes_N2: NDArray[np.int64]) -> int:
    height, width = _canvas(micro_batch, sizes_N2)
    return len(micro_batch) * height * width


def _run_block(
    step: OptimizerStep, batches: Iterator[Batch], planned: Sequence[PlannedStep], *, timer: StepTimer
) -> tuple[PhaseTimes, float, list[StepResult]]:
    timer.begin_block()
    results = [
        step.run(batches, num_examples=sum(len(micro_batch) for micro_batch in micro_batches), timer=timer)
        for micro_batches in planned
    ]
    times, wall_time_s = timer.end_block()
    return times, wall_time_s, results


def _shape_columns(steps: Sequence[PlannedStep], sizes_N2: NDArray[np.int64]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "num_examples",
            "num_micro_batches",
            "valid_pixels",
            "padded_pixels",
            "canvas_height",
            "canvas_width",
        )
    }
    for micro_batches in steps:
        examples = [index for micro_batch in micro_batches for index in micro_batch]
        canvases = [_canvas(micro_batch, sizes_N2) for micro_batch in micro_batches]
        columns["num_examples"].append(len(examples))
        columns["num_micro_batches"].append(len(micro_batches))
        columns["valid_pixels"].append(int(sizes_N2[examples].prod(axis=1).sum()))
        columns["padded_pixels"].append(sum(_canvas_pixels(micro_batch, sizes_N2) for micro_batch in micro_batches))
        columns["canvas_height"].append(max(height for height, _ in canvases))
        columns["canvas_width"].append(max(width for _, width in canvases))
    return columns


def _block(columns: dict[str, list[Any]], wall_time_s: float) -> Block:
    rows = [i for i, is_warm_up in enumerate(columns["is_warm_up"]) if not is_warm_up]

    def total(name: str) -> int:
        return sum(columns[name][i] for i in rows)

    return Block(
        wall_time_s=wall_time_s,
        num_steps=len(rows),
        num_examples=total("num_examples"),
        valid_pixels=total("valid_pixels"),
        padded_pixels=total("padded_pixels"),
    )


def _skipped_by_scaler(results: Sequence[StepResult]) -> list[bool]:
    counts = [0.0, *(float(result.num_updates) for result in results)]
    return [after == before for before, after in itertools.pairwise(counts)]
