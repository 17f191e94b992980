"""The memory trial: one real training step on a micro-batch of worst-case examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from vnbench.loading.collate import Batch, blank_batch
from vnbench.records.readings import MemoryReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks.references import checked_against_references, expected_large_tensors
from vnbench.trial.checks.soundness import checked_loss, large_tensor_warnings, memory_warnings
from vnbench.trial.instruments.memory import cuda_memory, reset_cuda_peaks
from vnbench.trial.measuring.drawn_batch import drawn_batch
from vnbench.trial.measuring.worst_case import track_worst_case, train
from vnbench.trial.step.network import SMALLEST_SIDE
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult, build_step


def measure_memory(task: TrialTask[MemorySpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record with the peak memory of one training step on worst-case examples."""
    spec = task.spec
    record = expected_large_tensors(
        record, num_examples=spec.micro_batch_size, height=spec.worst_case_height, width=spec.worst_case_width
    )
    yield record
    memory, loss = _measure(spec)
    record = replace(record, memory=memory, warnings=tuple(memory_warnings(memory)))
    yield checked_loss(record, [loss], is_skipped=[False])
    if record.large_tensors is not None and math.isfinite(loss):
        # Only now, so that the comparison's memory is not part of the peak.
        record = checked_against_references(record)
        yield replace(record, warnings=(*record.warnings, *large_tensor_warnings(record)))


def _measure(spec: MemorySpec) -> tuple[MemoryReading, float]:
    """Return the memory and the loss of one training step on the worst case."""
    device = torch.device(spec.device)
    step = build_step(spec, device=device)
    smallest = drawn_batch(spec, height=SMALLEST_SIDE, width=SMALLEST_SIDE, num_examples=1)
    worst_case = drawn_batch(
        spec, height=spec.worst_case_height, width=spec.worst_case_width, num_examples=spec.micro_batch_size
    )
    measure = _worst_case_on_cuda if device.type == "cuda" else track_worst_case
    result, memory = measure(step, spec, smallest=smallest, worst_case=worst_case)
    return memory, float(result.loss)


def _worst_case_on_cuda(
    step: OptimizerStep, spec: MemorySpec, *, smallest: Batch, worst_case: Batch
) -> tuple[StepResult, MemoryReading]:
    """Return the same as ``track_worst_case``, with cold and warm peaks from the caching allocator."""
    device = step.device
    train(step, smallest)
    num_retries_before = reset_cuda_peaks(device)
    soak_bytes = _soak_on_cuda(step, spec) if spec.soak_passes else None
    # Cold, then warm: in the first step on a shape, libraries choose and perhaps try their algorithms.
    reset_cuda_peaks(device)
    train(step, smallest, worst_case)
    torch.cuda.synchronize()
    cold_bytes = cuda_memory(device, num_retries_before=num_retries_before).peak_allocated_bytes
    if not step.is_replayed:
        reset_cuda_peaks(device)
    result = train(step, smallest, worst_case)
    torch.cuda.synchronize()
    memory = cuda_memory(device, num_retries_before=num_retries_before)
    return result, replace(memory, cold_peak_allocated_bytes=cold_bytes, soak_peak_allocated_bytes=soak_bytes)


def _soak_on_cuda(step: OptimizerStep, spec: MemorySpec) -> int:
    """Train on the soak's passes and return the peak of the bytes that tensors held meanwhile."""
    num_retries_before = reset_cuda_peaks(step.device)
    for count, height, width in spec.soak_passes or ():
        train(step, blank_batch(count, height=height, width=width))
    torch.cuda.synchronize(step.device)
    return cuda_memory(step.device, num_retries_before=num_retries_before).peak_allocated_bytes or 0
