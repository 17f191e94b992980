"""Training on image files, timed: warm-up steps, then whole epochs of the subset that all trials share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vnbench.data.batching import BatchPlan, account_for_sampler, align, plan_epoch
from vnbench.data.collate import Batch, blank_batch
from vnbench.data.corpus import Corpus, load_corpus
from vnbench.data.loader import make_loader
from vnbench.data.subset import choose_subset
from vnbench.errors import CorpusError
from vnbench.harness.blocks import BlockLog, StepShape
from vnbench.harness.step import OptimizerStep, build_step
from vnbench.harness.stopping import Stopping
from vnbench.harness.task import TrialTask
from vnbench.measure.memory import cuda_memory, process_memory, reset_cuda_peaks
from vnbench.measure.timing import make_timer
from vnbench.record import TrialRecord
from vnbench.spec import TrialSpec

MEASURED_EPOCH = 1
"""Epoch of the subset whose plan is measured; warm-up takes its steps from epoch 0."""

PlannedStep = tuple[tuple[int, ...], ...]
"""Micro-batches of example indices."""


def measure_training(task: TrialTask, record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record after each measured epoch of the subset; warm-up steps come before the first."""
    spec = task.spec
    assert spec.sampler is not None
    assert spec.subset_size is not None
    corpus = _load_the_corpus(task)
    device = torch.device(spec.device)
    train_sizes = corpus.sizes_N2[corpus.train_indices]
    chosen = corpus.train_indices[choose_subset(train_sizes, subset_size=spec.subset_size)]
    warm_up, measured = _planned_steps(spec, corpus, chosen)
    batching = account_for_sampler(
        train_sizes,
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        seed=spec.seed,
    )
    record = replace(record, batching=batching)

    step = build_step(spec, device=device)
    if device.type == "cuda" or spec.compile != "none":
        _visit_shapes(step, measured, corpus.sizes_N2)
    max_epochs = spec.max_epochs or 1
    batches = _batches(spec, corpus, (*warm_up, *measured * max_epochs), device=device)
    log = BlockLog(step)
    log.run(batches, [_shape(planned, corpus.sizes_N2) for planned in warm_up], is_warm_up=True)
    num_retries_before = reset_cuda_peaks(device) if device.type == "cuda" else 0
    stopping = Stopping(noise_target=spec.noise_target, max_measuring_s=spec.max_measuring_s, max_epochs=max_epochs)
    shapes = [_shape(planned, corpus.sizes_N2) for planned in measured]
    while record.stop is None:
        block = log.run(batches, shapes, is_warm_up=False)
        stopping.add_block(block.step_times_s, [shape.padded_pixels for shape in shapes], wall_time_s=block.wall_time_s)
        memory = (
            cuda_memory(device, num_retries_before=num_retries_before) if device.type == "cuda" else process_memory()
        )
        record = log.observed(replace(record, stop=stopping.decide()), memory=memory, is_per_canvas=False)
        yield record


def _planned_steps(
    spec: TrialSpec, corpus: Corpus, chosen: NDArray[np.int64]
) -> tuple[tuple[PlannedStep, ...], tuple[PlannedStep, ...]]:
    """Return the warm-up steps and those of one measured epoch.

    Each measured epoch has the same plan: its canvases are then known beforehand, and epochs differ by noise alone.
    """
    assert spec.num_warm_up_steps is not None
    first_epoch = _plan(spec, corpus, chosen, epoch=0)
    warm_up = _warm_up_steps(first_epoch, corpus.sizes_N2, count=spec.num_warm_up_steps)
    return warm_up, _plan(spec, corpus, chosen, epoch=MEASURED_EPOCH).steps


def _batches(spec: TrialSpec, corpus: Corpus, steps: Sequence[PlannedStep], *, device: torch.device) -> Iterator[Batch]:
    assert spec.num_workers is not None
    loader = make_loader(
        corpus,
        [micro_batch for planned in steps for micro_batch in planned],
        num_workers=spec.num_workers,
        pin_memory=device.type == "cuda",
        num_classes=spec.num_classes,
    )
    return iter(loader)


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


def _shape(micro_batches: PlannedStep, sizes_N2: NDArray[np.int64]) -> StepShape:
    examples = [index for micro_batch in micro_batches for index in micro_batch]
    canvases = [_canvas(micro_batch, sizes_N2) for micro_batch in micro_batches]
    return StepShape(
        num_examples=len(examples),
        num_micro_batches=len(micro_batches),
        valid_pixels=int(sizes_N2[examples].prod(axis=1).sum()),
        padded_pixels=sum(_canvas_pixels(micro_batch, sizes_N2) for micro_batch in micro_batches),
        canvas_height=max(height for height, _ in canvases),
        canvas_width=max(width for _, width in canvases),
    )
