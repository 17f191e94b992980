"""Worst-case memory from a trace: a memory trial's step on fake tensors, which takes seconds and almost no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vnbench.batching.alignment import align
from vnbench.loading.collate import blank_batch
from vnbench.records.readings import MemoryReading
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks.references import expected_large_tensors
from vnbench.trial.measuring.worst_case import track_worst_case
from vnbench.trial.step.fake_step import fake_step
from vnbench.trial.step.network import SMALLEST_SIDE
from vnbench.trial.step.network_errors import told_of_network
from vnbench.units import format_bytes

RUN_IT = "write --memory-by step, which runs the step"
"""What to do about a network that cannot be traced."""


def trace_memory(task: TrialTask[MemorySpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record with the traced peak of one training step on worst-case examples.

    If the peak exceeds the memory limit or, without a limit, the machine's memory, the record is ``oom``, as after the
    real step: no trial of that size can run here. The reading is kept. Nothing is computed, so there is no loss to
    check and no comparison with the reference; a tensor of more than 2^31 elements is noted.
    """
    spec = task.spec
    record = expected_large_tensors(
        record, num_examples=spec.micro_batch_size, height=spec.worst_case_height, width=spec.worst_case_width
    )
    yield record
    yield checked_room(replace(record, memory=traced_memory(spec)))


def traced_memory(spec: MemorySpec) -> MemoryReading:
    """Return the peak of a memory spec's step on the CPU, and of its soak if it has one, without running it.

    It equals the live-tensor tracker's peak in the real step, except where torch's shape rules differ from its kernels:
    BatchNorm on bf16 keeps its statistics in fp32, but a trace sees bf16.

    Raises:
        ModelError: a user's own network failed, or cannot be traced.
    """
    with told_of_network(spec, remedy=RUN_IT), fake_step(spec) as step:
        smallest = blank_batch(1, height=SMALLEST_SIDE, width=SMALLEST_SIDE)
        worst_case = blank_batch(
            spec.micro_batch_size, height=int(align(spec.worst_case_height)), width=int(align(spec.worst_case_width))
        )
        _, memory = track_worst_case(step, spec, smallest=smallest, worst_case=worst_case)
    return replace(memory, instrument="traced-tensors", process_peak_rss_bytes=None)


def checked_room(record: TrialRecord) -> TrialRecord:
    """Return the record, marked ``oom`` if the traced peak exceeds the memory that a trial has."""
    memory = record.memory
    assert memory is not None
    peak_bytes = memory.peak_allocated_bytes
    known = [size for size in (record.spec.memory_limit_bytes, memory.capacity_bytes) if size is not None]
    room_bytes = min(known, default=None)
    if peak_bytes is None or room_bytes is None or peak_bytes <= room_bytes:
        return record
    message = (
        f"the step holds {format_bytes(peak_bytes)} of tensors at its peak, but only {format_bytes(room_bytes)} "
        "are available"
    )
    return replace(record, status="oom", cause=Cause(kind="traced-peak", message=message))
