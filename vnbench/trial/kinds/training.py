"""The training trial: timed training on image files, with warm-up steps, then whole epochs of the shared subset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.trial_epoch import MEASURED_EPOCH, plan_config
from vnbench.images.corpus import Corpus
from vnbench.loading.collate import blank_batch
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks.references import checked_against_references, expected_large_tensors
from vnbench.trial.frameworks.looped import TimedStep, looped
from vnbench.trial.instruments.memory import cuda_memory, process_memory, reset_cuda_peaks
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.measuring.blocks import BlockLog, StepShape
from vnbench.trial.measuring.corpus_steps import PlannedStep, choose_examples, load_the_corpus, steps_of_epoch
from vnbench.trial.measuring.loaders import Loading
from vnbench.trial.measuring.stopping import Stopping
from vnbench.trial.step.digest import read_weights
from vnbench.trial.step.optimizer_step import build_step


def measure_training(task: TrialTask[TrainingSpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record after each measured epoch of the subset; warm-up steps come first."""
    spec = task.spec
    corpus = load_the_corpus(task)
    device = torch.device(spec.device)
    chosen = choose_examples(spec, corpus)
    warm_up, measured = _planned_steps(spec, corpus, chosen)
    record = replace(record, batching=account_for_epoch(corpus.sizes_N2[corpus.train_indices], plan_config(spec)))

    largest = max((one for planned in measured for one in planned), key=lambda one: one.padded_pixels)
    height, width = largest.canvas
    record = expected_large_tensors(record, num_examples=len(largest.examples), height=height, width=width)
    yield record
    record = checked_against_references(record)
    loading = Loading(task, corpus, chosen)
    own = build_step(spec, device=device)
    num_retries_before = reset_cuda_peaks(device) if device.type == "cuda" else 0
    with looped(own, spec) as step, loading.naming_examples():
        if spec.visits_shapes:
            # All that is captured is captured now: threads of a loader pin memory, which ends a capture with an error.
            _visit_shapes(step, (*warm_up, *measured) if step.is_replayed else measured)
        max_epochs = spec.max_epochs or 1
        epochs = [[micro_batch for planned in steps for micro_batch in planned] for steps in (warm_up, measured)]
        batches = loading.epochs(epochs[0], *[epochs[1]] * max_epochs, pin_memory=device.type == "cuda")
        log = BlockLog(step)
        log.run(batches, [_shape(planned, corpus.sizes_N2) for planned in warm_up], is_warm_up=True)
        if device.type == "cuda" and not step.is_replayed:
            num_retries_before = reset_cuda_peaks(device)
        stopping = Stopping(
            noise_target=spec.noise_target,
            max_measuring_s=spec.max_measuring_s,
            max_epochs=max_epochs,
            is_by_canvas=True,
        )
        shapes = [_shape(planned, corpus.sizes_N2) for planned in measured]
        while record.stop is None:
            block = log.run(batches, shapes, is_warm_up=False)
            stopping.add_block(
                block.step_times_s, [shape.padded_pixels for shape in shapes], wall_time_s=block.wall_time_s
            )
            memory = (
                cuda_memory(device, num_retries_before=num_retries_before)
                if device.type == "cuda"
                else process_memory()
            )
            record = replace(record, stop=stopping.decide(), weights=record.weights or read_weights(own))
            record = log.observed(record, memory=memory, is_per_canvas=False)
            yield record


def _planned_steps(
    spec: TrainingSpec, corpus: Corpus, chosen: NDArray[np.int64]
) -> tuple[tuple[PlannedStep, ...], tuple[PlannedStep, ...]]:
    """Return the warm-up steps and those of one measured epoch.

    Each measured epoch has the same plan, so that its canvases are known in advance and epochs differ only by noise.
    """
    first_epoch = steps_of_epoch(spec, corpus, chosen, epoch=0)
    measured = steps_of_epoch(spec, corpus, chosen, epoch=MEASURED_EPOCH)
    if spec.loop == "lightning-automatic":
        _check_windows(spec, (*first_epoch, *measured))
    warm_up = _warm_up_steps(first_epoch, count=spec.num_warm_up_steps, is_cold=spec.shape_visits == "cold")
    return warm_up, measured


def _check_windows(spec: TrainingSpec, steps: Sequence[PlannedStep]) -> None:
    """Raise a ValueError if a step has another number of passes than the window of an automatic loop."""
    numbers = {len(step) for step in steps} - {spec.accumulation_steps}
    if numbers:
        raise ValueError(
            f"steps of {min(numbers)} passes, and Lightning's automatic optimization updates after "
            f"{spec.accumulation_steps}: write a --subset that the batch divides, or --loop lightning"
        )


def _visit_shapes(step: TimedStep, steps: Sequence[PlannedStep]) -> None:
    """Run one pass over each canvas of some steps, the largest first, on blank images and without an update.

    On CUDA the first pass over a shape makes its plans, which takes a quarter of a second or more. The share of such
    first passes depends on batch and sampler, so without these visits the trials could not be compared.
    """
    shapes = {(len(examples), *canvas) for micro_batches in steps for examples, canvas in micro_batches}
    timer = make_timer(step.device)
    for num_examples, height, width in sorted(shapes, key=math.prod, reverse=True):
        step.visit(blank_batch(num_examples, height=height, width=width), timer=timer)


def _warm_up_steps(steps: Sequence[PlannedStep], *, count: int, is_cold: bool) -> tuple[PlannedStep, ...]:
    """Return ``count`` steps, the largest canvas first; if shapes are to stay cold, only that step, repeated.

    The largest canvas makes the allocator (or the heap) reserve all it will need; ascending canvases would make it grow
    again and again, even during the measured block.
    """

    def largest_canvas(step: PlannedStep) -> int:
        return max(micro_batch.padded_pixels for micro_batch in step)

    ordered = sorted(steps, key=largest_canvas, reverse=True)[: 1 if is_cold else None]
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
