"""The step on the worst case as training meets it, under the live-tensor tracker: on real tensors or on fake ones."""

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
    """Return what the step of a memory trial leaves behind, and its peak.

    A first step makes the optimizer's state. In the measured one a smallest micro-batch goes first, so that the worst
    case meets what it meets in training: optimizer state and, under accumulation, gradients of an earlier pass. Passes
    of a soak lie between the two steps.
    """
    train(step, smallest)
    soak_bytes = _soak(step, spec)
    batches = (smallest, worst_case)
    result, memory = run_tracked(step, batches, partial(train, step, *batches))
    return result, replace(memory, soak_peak_allocated_bytes=soak_bytes)


def train(step: OptimizerStep, *batches: Batch) -> StepResult:
    """Run one step on some micro-batches."""
    num_examples = sum(len(batch.sizes_B2) for batch in batches)
    return step.run(iter(batches), num_examples=num_examples, timer=make_timer(step.device))


def _soak(step: OptimizerStep, spec: MemorySpec) -> int | None:
    """Train on the passes before the worst case; return the most bytes that tensors held meanwhile, None without any.

    Each pass is a step of its own.
    """
    peaks = []
    for count, height, width in spec.soak_passes or ():
        batch = blank_batch(count, height=height, width=width)
        _, reading = run_tracked(step, [batch], partial(train, step, batch))
        peaks.append(reading.peak_allocated_bytes or 0)
    return max(peaks, default=None)
