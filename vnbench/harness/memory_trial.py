"""Worst-case memory: one real training step on a micro-batch made only of worst-case examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from vnbench.data.collate import Batch, blank_batch, collate
from vnbench.data.raster import draw_example
from vnbench.harness.network import SMALLEST_SIDE
from vnbench.harness.reference_checks import checked_against_references, expected_large_tensors
from vnbench.harness.soundness import checked_loss, large_tensor_warnings, memory_warnings
from vnbench.harness.step import OptimizerStep, StepResult, build_step
from vnbench.harness.task import TrialTask
from vnbench.harness.tracked_step import run_tracked
from vnbench.measure.memory import cuda_memory, reset_cuda_peaks
from vnbench.measure.timing import make_timer
from vnbench.readings import MemoryReading
from vnbench.record import TrialRecord
from vnbench.spec import TrialSpec


def measure_memory(task: TrialTask, record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record with the peak memory of one training step on worst-case examples."""
    spec = task.spec
    assert spec.worst_case_height is not None
    assert spec.worst_case_width is not None
    record = expected_large_tensors(
        record, num_examples=spec.micro_batch_size, height=spec.worst_case_height, width=spec.worst_case_width
    )
    yield record
    memory, loss = _measure(spec)
    record = replace(record, memory=memory, warnings=tuple(memory_warnings(memory)))
    yield checked_loss(record, [loss], is_skipped=[False])
    if record.large_tensors is not None and math.isfinite(loss):
        # Only now: what the comparison takes is no part of the peak.
        record = checked_against_references(record)
        yield replace(record, warnings=(*record.warnings, *large_tensor_warnings(record)))


def _measure(spec: TrialSpec) -> tuple[MemoryReading, float]:
    """Return the memory and the loss of one training step on the worst case."""
    assert spec.worst_case_height is not None
    assert spec.worst_case_width is not None
    device = torch.device(spec.device)
    step = build_step(spec, device=device)
    smallest = drawn_batch(spec, height=SMALLEST_SIDE, width=SMALLEST_SIDE, num_examples=1)
    worst_case = drawn_batch(
        spec, height=spec.worst_case_height, width=spec.worst_case_width, num_examples=spec.micro_batch_size
    )
    # The first step makes the optimizer's state. In the second a smallest micro-batch goes first, so that the worst
    # case meets what it meets in training: optimizer state and, under accumulation, gradients of an earlier pass.
    step.run(iter([smallest]), num_examples=1, timer=make_timer(device))
    num_retries_before = reset_cuda_peaks(device) if device.type == "cuda" else 0
    soak_bytes = _soak(step, spec) if spec.soak_passes else None

    def worst_case_step() -> StepResult:
        batches = iter([smallest, worst_case])
        return step.run(batches, num_examples=1 + spec.micro_batch_size, timer=make_timer(device))

    if device.type == "cuda":
        # Cold, then warm: in the first step on a shape libraries choose their algorithms, and may try them.
        reset_cuda_peaks(device)
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
        result, memory = run_tracked(step, (smallest, worst_case), worst_case_step)
    return replace(memory, soak_peak_allocated_bytes=soak_bytes), float(result.loss)


def _soak(step: OptimizerStep, spec: TrialSpec) -> int:
    """Train on the passes before the worst case; return the most bytes that tensors held meanwhile."""
    batches = (blank_batch(count, height=height, width=width) for count, height, width in spec.soak_passes or ())
    if step.device.type != "cuda":
        readings = [run_tracked(step, [batch], partial(_train, step, batch))[1] for batch in batches]
        return max(reading.peak_allocated_bytes or 0 for reading in readings)
    num_retries_before = reset_cuda_peaks(step.device)
    for batch in batches:
        _train(step, batch)
    torch.cuda.synchronize(step.device)
    return cuda_memory(step.device, num_retries_before=num_retries_before).peak_allocated_bytes or 0


def _train(step: OptimizerStep, batch: Batch) -> StepResult:
    return step.run(iter([batch]), num_examples=len(batch.images_BHW), timer=make_timer(step.device))


def drawn_batch(spec: TrialSpec, *, height: int, width: int, num_examples: int) -> Batch:
    """Return a batch of so many examples of a size, drawn from the spec's seed."""
    example = draw_example(seed=spec.seed, index=0, height=height, width=width, task=spec.task)
    return collate([example] * num_examples)
