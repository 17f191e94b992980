"""Running the trials of a design one after the other, and what they leave for the next run of the same command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from vnbench.harness.design import PlannedTrial
from vnbench.harness.task import TrialTask
from vnbench.record import Cause, TrialRecord
from vnbench.spec import TrialSpec

Clock = Callable[[], float]
"""Returns monotonic seconds."""

Runner = Callable[[TrialTask], TrialRecord]
"""Runs one trial in its own process."""


class SweepObserver(Protocol):
    """Who is told how a sweep goes on."""

    def started(self, spec: TrialSpec) -> None:
        """Take note that a trial starts."""

    def finished(self, record: TrialRecord) -> None:
        """Take note that a trial ended, or was skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DueTrial:
    """A trial that is still to be run, and which try at it that is."""

    planned: PlannedTrial
    """The trial."""
    attempt: int
    """Which try, from 0."""


def due_trials(
    trials: Sequence[PlannedTrial], *, records: Sequence[TrialRecord], retry: Sequence[str]
) -> tuple[DueTrial, ...]:
    """Return the trials without a record, and those whose last record has a status that is to be tried again."""
    last = _last_records(records)
    due: list[DueTrial] = []
    for planned in trials:
        record = last.get((planned.spec.spec_id, planned.replicate))
        if record is None:
            due.append(DueTrial(planned=planned, attempt=0))
        elif record.status in retry:
            due.append(DueTrial(planned=planned, attempt=record.attempt + 1))
    return tuple(due)


def run_sweep(
    due: Sequence[DueTrial],
    *,
    records: Sequence[TrialRecord],
    run: Runner,
    corpus_directory: str,
    environment: dict[str, Any],
    observer: SweepObserver,
    deadline: float | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[TrialRecord]:
    """Run trials and yield the record of each as soon as it exists.

    A trial whose family ran out of memory in this or a smaller micro-batch is not run: its record is ``skipped`` and
    names the trial that failed. ``records`` are those of earlier runs, which count for this too. No trial starts after
    ``deadline`` on ``clock``.
    """
    known = list(records)
    for trial in due:
        if deadline is not None and clock() >= deadline:
            return
        spec = trial.planned.spec
        task = TrialTask(
            spec=spec,
            replicate=trial.planned.replicate,
            attempt=trial.attempt,
            corpus_directory=corpus_directory if spec.kind == "training" else None,
        )
        blocker = find_blocker(spec, known)
        if blocker is None:
            observer.started(spec)
            record = run(task)
        else:
            record = _skipped(task, blocker, environment)
        known.append(record)
        yield record
        observer.finished(record)


def find_blocker(spec: TrialSpec, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return a trial that ran out of memory and whose configuration ``spec`` can only exceed, or None.

    Memory grows with the micro-batch and with nothing else inside a lever key. A memory trial blocks the training
    trials of its own micro-batch too: a configuration that does not survive the worst case is none to train with.
    """
    for record in _last_records(records).values():
        if record.status != "oom" or record.spec.lever_key != spec.lever_key:
            continue
        is_larger = spec.micro_batch_size > record.spec.micro_batch_size
        is_same = spec.micro_batch_size == record.spec.micro_batch_size
        if is_larger or (is_same and record.kind == "memory" and spec.kind == "training"):
            return record
    return None


def _skipped(task: TrialTask, blocker: TrialRecord, environment: dict[str, Any]) -> TrialRecord:
    what = "the worst case" if blocker.kind == "memory" else "training"
    message = f"{what} at micro-batch {blocker.spec.micro_batch_size} ran out of memory (trial {blocker.trial_id})"
    return TrialRecord(
        spec=task.spec,
        replicate=task.replicate,
        attempt=task.attempt,
        status="skipped",
        cause=Cause(kind="larger-than-out-of-memory", message=message),
        environment=environment,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        elapsed_s=0.0,
    )


def _last_records(records: Sequence[TrialRecord]) -> dict[tuple[str, int], TrialRecord]:
    last: dict[tuple[str, int], TrialRecord] = {}
    for record in records:
        key = (record.spec_id, record.replicate)
        if key not in last or record.attempt >= last[key].attempt:
            last[key] = record
    return last
