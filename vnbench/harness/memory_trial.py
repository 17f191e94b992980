"""Worst-case memory: one real training step on a micro-batch made only of worst-case examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from vnbench.data.collate import Batch, blank_batch, collate
from vnbench.data.raster import draw_example
from vnbench.harness.soundness import checked_loss, memory_warnings
from vnbench.harness.step import OptimizerStep, StepResult, build_step
from vnbench.harness.task import TrialTask
from vnbench.measure.memory import LiveTensorTracker, cuda_memory, reset_cuda_peaks, tracked_memory
from vnbench.measure.timing import make_timer
from vnbench.readings import MemoryReading
from vnbench.record import TrialRecord
from vnbench.spec import ALIGNMENT, TrialSpec


def measure_memory(task: TrialTask, record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record with the peak memory of one training step on worst-case examples."""
    spec = task.spec
    assert spec.worst_case_height is not None
    assert spec.worst_case_width is not None
    device = torch.device(spec.device)
    step = build_step(spec, device=device)
    smallest = drawn_batch(spec, height=ALIGNMENT, width=ALIGNMENT, num_examples=1)
    worst_case = drawn_batch(
        spec, height=spec.worst_case_height, width=spec.worst_case_width, num_examples=spec.micro_batch_size
    )
    # The first step makes the optimizer's state. In the second a smallest micro-batch goes first, so that the worst
    # case meets what it meets in training: optimizer state and, under accumulation, gradients of an earlier pass.
    step.run(iter([smallest]), num_examples=1, timer=make_timer(device))
    for num_examples, height, width in spec.soak_passes or ():
        mixed = blank_batch(num_examples, height=height, width=width)
        step.run(iter([mixed]), num_examples=num_examples, timer=make_timer(device))

    def worst_case_step() -> StepResult:
        batches = iter([smallest, worst_case])
        return step.run(batches, num_examples=1 + spec.micro_batch_size, timer=make_timer(device))

    if device.type == "cuda":
        # Cold, then warm: in the first step on a shape libraries choose their algorithms, and may try them.
        num_retries_before = reset_cuda_peaks(device)
        worst_case_step()
        torch.cuda.synchronize()
        cold_bytes = cuda_memory(device, num_retries_before=num_retries_before).peak_allocated_bytes
        reset_cuda_peaks(device)
        result = worst_case_step()
        torch.cuda.synchronize()
        memory = replace(
            cuda_memory(device, num_retries_before=num_retries_before), cold_peak_allocated_bytes=cold_bytes
        )
    else:
        result, memory = _tracked(step, (smallest, worst_case), worst_case_step)
    loss = float(result.loss)
    yield checked_loss(
        replace(record, memory=memory, warnings=tuple(memory_warnings(memory))), [loss], is_skipped=[False]
    )


def _tracked(
    step: OptimizerStep, batches: Sequence[Batch], run_step: Callable[[], StepResult]
) -> tuple[StepResult, MemoryReading]:
    tracker = LiveTensorTracker()
    existing = [*step.model.parameters(), *step.model.buffers()]
    existing += [parameter.grad for parameter in step.model.parameters() if parameter.grad is not None]
    existing += [value for state in step.optimizer.state.values() for value in state.values()]
    existing += [tensor for batch in batches for tensor in batch]
    with tracker:
        tracker.track(existing)
        result = run_step()
    tracker.close()
    return result, tracked_memory(tracker.peak_bytes)


def drawn_batch(spec: TrialSpec, *, height: int, width: int, num_examples: int) -> Batch:
    """Return a batch of so many examples of a size, drawn from the spec's seed."""
    example = draw_example(seed=spec.seed, index=0, height=height, width=width, task=spec.task)
    return collate([example] * num_examples)
