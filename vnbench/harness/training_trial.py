"""Training on image files, timed: warm-up steps, then whole epochs of the subset that all trials share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vnbench.data.accounts import account_for_epoch
from vnbench.data.alignment import align
from vnbench.data.batching import plan_epoch
from vnbench.data.collate import Batch, blank_batch
from vnbench.data.corpus import Corpus, load_corpus
from vnbench.data.loader import make_loader
from vnbench.data.plan import MicroBatch, PlanConfig
from vnbench.data.shapes import choose_grid
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

PlannedStep = tuple[MicroBatch, ...]
"""The passes of an optimizer step, their examples as indices of the corpus."""


def measure_training(task: TrialTask, record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record after each measured epoch of the subset; warm-up steps come before the first."""
    spec = task.spec
    assert spec.subset_size is not None
    corpus = _load_the_corpus(task)
    device = torch.device(spec.device)
    train_sizes = corpus.sizes_N2[corpus.train_indices]
    chosen = corpus.train_indices[choose_subset(train_sizes, subset_size=spec.subset_size)]
    warm_up, measured = _planned_steps(spec, corpus, chosen)
    record = replace(record, batching=account_for_epoch(train_sizes, plan_config(spec)))

    step = build_step(spec, device=device)
    if device.type == "cuda" or spec.compile != "none":
        _visit_shapes(step, measured)
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
    warm_up = _warm_up_steps(first_epoch, count=spec.num_warm_up_steps)
    return warm_up, _plan(spec, corpus, chosen, epoch=MEASURED_EPOCH)


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


def _visit_shapes(step: OptimizerStep, steps: Sequence[PlannedStep]) -> None:
    """Run one pass over each canvas of some steps, largest first, on blank paper and without an update.

    On CUDA the first pass over a shape pays for its plans: a quarter of a second and more. Which share of the measured
    steps would be a first one depends on batch and sampler, so without this they could not be compared.
    """
    shapes = {(len(examples), *canvas) for micro_batches in steps for examples, canvas in micro_batches}
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


def plan_config(spec: TrialSpec) -> PlanConfig:
    """Return the settings of a training trial's plans."""
    assert spec.sampler is not None
    return PlanConfig(
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        pixel_budget=spec.pixel_budget,
        shapes=spec.shapes,
        seed=spec.seed,
    )


def _plan(spec: TrialSpec, corpus: Corpus, chosen: NDArray[np.int64], *, epoch: int) -> tuple[PlannedStep, ...]:
    """Return the steps of one epoch of the chosen examples, in indices of the corpus."""
    grid = None
    if spec.shapes is not None:
        # Training pads to the canvases that are chosen for all examples, of which only some are measured.
        grid = choose_grid(align(corpus.sizes_N2[corpus.train_indices]), count=spec.shapes)
    plan = plan_epoch(corpus.sizes_N2[chosen], plan_config(spec), epoch=epoch, grid=grid)
    return replace(plan, order_N=chosen[plan.order_N]).steps


def _warm_up_steps(steps: Sequence[PlannedStep], *, count: int) -> tuple[PlannedStep, ...]:
    """Return ``count`` of some steps, the one with the largest canvas first.

    The largest canvas makes the allocator (or the heap) take at once what it will need; ascending ones would make it
    ask again and again, inside the measured block too.
    """

    def largest_canvas(step: PlannedStep) -> int:
        return max(micro_batch.padded_pixels for micro_batch in step)

    ordered = sorted(steps, key=largest_canvas, reverse=True)
    return tuple(ordered[i % len(ordered)] for i in range(count))


def _shape(planned: PlannedStep, sizes_N2: NDArray[np.int64]) -> StepShape:
    examples = [index for micro_batch in planned for index in micro_batch.examples]
    return StepShape(
        num_examples=len(examples),
        num_micro_batches=len(planned),
        valid_pixels=int(sizes_N2[examples].prod(axis=1).sum()),
        padded_pixels=sum(micro_batch.padded_pixels for micro_batch in planned),
        canvas_height=max(micro_batch.canvas[0] for micro_batch in planned),
        canvas_width=max(micro_batch.canvas[1] for micro_batch in planned),
    )
