"""The entry point of a trial's process: a task in, a record out, even after a failure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from vnbench.records.failures import classify
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ComputeSpec, LoaderSpec, MemorySpec, ProbeSpec, TrainingSpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks.equality import checked_equality
from vnbench.trial.checks.large_tensors import checked_large_tensors
from vnbench.trial.checks.parity import checked_parity
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.instruments.memory import is_cuda_full, num_cuda_ooms
from vnbench.trial.kinds.compute import measure_compute
from vnbench.trial.kinds.loader import measure_loader
from vnbench.trial.kinds.memory import measure_memory
from vnbench.trial.kinds.probe import measure_probe
from vnbench.trial.kinds.traced_memory import trace_memory
from vnbench.trial.kinds.training import measure_training
from vnbench.trial.step.switches import set_switches

Measure = Callable[[TrialTask[Any], TrialRecord], Iterator[TrialRecord]]
"""Yields the growing record; after a failure the last one is kept, with everything observed so far."""

MEASURES: Mapping[type[TrialSpec], Measure] = {
    MemorySpec: measure_memory,
    ComputeSpec: measure_compute,
    LoaderSpec: measure_loader,
    TrainingSpec: measure_training,
    ProbeSpec: measure_probe,
}
"""Function that measures each kind of trial."""


def run(payload: str) -> str:
    """Run the trial of a TrialTask (JSON) and return its TrialRecord (JSON). No exception leaves this function."""
    task = TrialTask.from_json(payload)
    return run_by(_measure_of(task.spec), task).to_json()


def run_all(payload: str) -> str:
    """Run a list of TrialTasks in turn in this process and return the list of their TrialRecords.

    Both are JSON lists of JSON texts. Use it only for trials that leave nothing behind in their process, such as
    traces. If one fails, the others still run.
    """
    tasks = [TrialTask.from_json(text) for text in json.loads(payload)]
    return json.dumps([run_by(_measure_of(task.spec), task).to_json() for task in tasks])


def run_by(measure: Measure, task: TrialTask) -> TrialRecord:
    """Return the record of a task that a function measures. No exception leaves this function."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start = time.monotonic()
    record = TrialRecord(
        spec=task.spec,
        replicate=task.replicate,
        attempt=task.attempt,
        status="ok",
        cause=None,
        environment={},
        started_at=started_at,
        elapsed_s=0.0,
    )
    try:
        set_switches(task.spec)
        record = replace(record, environment=describe_environment(task.spec.device))
        for grown in measure(task, record):
            record = grown
        record = checked_large_tensors(checked_parity(checked_equality(record)))
    except Exception as error:  # the outermost frame of the child: every failure becomes a record
        status, cause = classify(
            error,
            num_device_ooms=num_cuda_ooms(),
            is_device_full=is_cuda_full(),
            has_memory_limit=task.spec.memory_limit_bytes is not None,
            has_large_tensors=record.large_tensors is not None,
        )
        record = replace(record, status=status, cause=cause)
    return _within_limit(replace(record, elapsed_s=time.monotonic() - start))


def _measure_of(spec: TrialSpec) -> Measure:
    return trace_memory if spec.is_traced else MEASURES[type(spec)]


def _within_limit(record: TrialRecord) -> TrialRecord:
    """Return the record with the memory limit, if there is one, as an upper bound of the capacity."""
    limit_bytes, memory = record.spec.memory_limit_bytes, record.memory
    if limit_bytes is None or memory is None:
        return record
    return replace(
        record, memory=replace(memory, capacity_bytes=min(limit_bytes, memory.capacity_bytes or limit_bytes))
    )
