"""The worst-case step under the live-tensor tracker, on real or fake tensors."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from vnbench.loading.collate import Batch, blank_batch
from vnbench.records.readings import MemoryReading
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult
from vnbench.trial.step.tracked_step import run_tracked


def track_worst_case(
    step: OptimizerStep, spec: MemorySpec, *, smallest: Batch, worst_case: Batch
) -> tuple[StepResult, MemoryReading]:
    """Return the result of a memory trial's step, and its peak memory.

    A first step makes the optimizer's state. The measured step starts with the smallest micro-batch, so that the worst
    case runs as in training: with optimizer state and, under accumulation, gradients of an earlier pass. The passes of
    a soak come between the two steps.
    """
    train(step, smallest)
    soak_bytes = _soak(step, spec)
    batches = (smallest, worst_case)
    result, memory = run_tracked(step, batches, partial(train, step, *batches))
    return result, replace(memory, soak_peak_allocated_bytes=soak_bytes)


def train(step: OptimizerStep, *batches: Batch) -> StepResult:
    """Run one step on some micro-batches and return its result."""
    num_examples = sum(len(batch.sizes_B2) for batch in batches)
    return step.run(iter(batches), num_examples=num_examples, timer=make_timer(step.device))


def _soak(step: OptimizerStep, spec: MemorySpec) -> int | None:
    """Train on the soak's passes and return the peak of the bytes that tensors held; None without a soak.

    Each pass is a separate step.
    """
    peaks = []
    for count, height, width in spec.soak_passes or ():
        batch = blank_batch(count, height=height, width=width)
        _, reading = run_tracked(step, [batch], partial(train, step, batch))
        peaks.append(reading.peak_allocated_bytes or 0)
    return max(peaks, default=None)
