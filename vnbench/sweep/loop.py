"""The loop that runs the trials of a design, and the choice of trials that are still due."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from vnbench.records.machine_keys import Environment
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.trial_spec import ImagesSpec, LoaderSpec, MemorySpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.device_loss import may_have_lost_device
from vnbench.sweep.order import PlannedTrial
from vnbench.sweep.repeats import Repeats
from vnbench.units import count

Clock = Callable[[], float]
"""Returns monotonic seconds."""

Runner = Callable[[TrialTask], TrialRecord]
"""Runs one trial in its own process."""

DEVICE_LOST = (
    "the GPU is gone (dmesg may show why, as an Xid): the sweep ends here and keeps all finished trials; bring the "
    "GPU back and run the same command with --retry crashed,timeout"
)
"""Message when a sweep ends because its GPU is gone."""


UNUSABLE_IMAGES = "the images cannot be used as they are, so the sweep ends here and keeps all finished trials: {}"
"""Message when a sweep ends because a trial met an unusable file, which every further trial would meet, too."""


class BudgetSpentError(Exception):
    """The sweep's time budget ended a trial. The trial has no record, as if it had not been started."""


class SweepObserver(Protocol):
    """Receiver of a sweep's progress."""

    def started(self, spec: TrialSpec, number: int) -> None:
        """Called when a try of a trial starts; the first has ``number`` 1."""

    def repeated(self, record: TrialRecord) -> None:
        """Called when a disturbed trial is put at the end of the queue for another try."""

    def finished(self, record: TrialRecord) -> None:
        """Called when a trial ends for good or is skipped; ``record`` is that of its last try."""

    def noted(self, message: str) -> None:
        """Called with a message about the whole sweep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DueTrial:
    """A trial that is still to run, with the number of the attempt."""

    planned: PlannedTrial
    """The trial."""
    attempt: int
    """Number of the attempt, from 0."""


def due_trials(
    trials: Sequence[PlannedTrial], *, records: Sequence[TrialRecord], retry: Sequence[str]
) -> tuple[DueTrial, ...]:
    """Return the trials without a record, and those whose last record has a status in ``retry``."""
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
    environment: Environment,
    observer: SweepObserver,
    max_attempts: int,
    is_device_there: Callable[[], bool],
    takes_s: Callable[[TrialSpec], float] = lambda spec: 0.0,
    deadline: float | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[TrialRecord]:
    """Run trials and yield each record as soon as it exists.

    A trial is not run if the same configuration ran out of memory at this or a smaller micro-batch: its record is
    ``skipped`` and names the trial that failed. ``records`` holds earlier runs, which count here, too.

    A trial that, by ``takes_s``, would end after ``deadline`` on ``clock`` does not start; the next one that fits does.
    The sweep ends when a failure looks like a lost GPU and ``is_device_there`` confirms it, when a trial meets an
    unusable image file, and when ``run`` raises BudgetSpentError.

    A disturbed trial runs again after all others, when the disturbance may be over, up to ``max_attempts`` tries. The
    record of every try is yielded. ``Repeats`` decides when to give up.
    """
    known = list(records)
    repeats = Repeats(max_attempts=max_attempts)
    waiting = deque(_Try(task=_task_of(trial, corpus_directory), number=1, last=None) for trial in due)

    def end(record: TrialRecord) -> None:
        repeats.finished(record)
        observer.finished(record)

    while waiting:
        left_s = math.inf if deadline is None else deadline - clock()
        this = _take_next(waiting, takes_s=takes_s, left_s=left_s)
        if this is None:
            break
        blocker = find_blocker(this.task.spec, known)
        if this.last is not None and (repeats.is_given_up or blocker is not None):
            end(this.last)
            continue
        if blocker is None:
            observer.started(this.task.spec, this.number)
            try:
                record = run(this.task)
            except BudgetSpentError:
                waiting.appendleft(this)
                break
        else:
            record = _skipped(this.task, blocker, environment)
        known.append(record)
        yield record
        reason = _reason_to_end(record, is_device_there=is_device_there)
        if reason is None and repeats.is_wanted_after(record, num_tries=this.number):
            observer.repeated(record)
            waiting.append(_next_try(this, record))
        else:
            end(record)
        if this.last is not None and (message := repeats.tried_again(record)) is not None:
            observer.noted(message)
        if reason is not None:
            observer.noted(reason)
            break
    not_retried = [this.last for this in waiting if this.last is not None]
    for record in not_retried:
        end(record)
    if not_retried and deadline is not None and not repeats.is_given_up:
        observer.noted(
            f"no time is left to try {count(len(not_retried), 'disturbed trial')} again: the time budget is used up"
        )
    verdict = repeats.verdict()
    if verdict is not None:
        observer.noted(verdict)


def is_of_unusable_image(record: TrialRecord) -> bool:
    """Return whether a trial failed because of an unusable image file."""
    return record.cause is not None and record.cause.kind == "unusable-image"


def _reason_to_end(record: TrialRecord, *, is_device_there: Callable[[], bool]) -> str | None:
    """Return why the sweep must end after ``record``; None if the next trial may start."""
    if record.cause is not None and is_of_unusable_image(record):
        return UNUSABLE_IMAGES.format(record.cause.message)
    return DEVICE_LOST if may_have_lost_device(record) and not is_device_there() else None


def _take_next(waiting: deque[_Try], *, takes_s: Callable[[TrialSpec], float], left_s: float) -> _Try | None:
    """Remove and return the first trial that fits into the time left; None if none does."""
    if left_s <= 0:
        return None
    this = next((one for one in waiting if takes_s(one.task.spec) <= left_s), None)
    if this is not None:
        waiting.remove(this)
    return this


def find_blocker(spec: TrialSpec, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return a trial that ran out of memory and that needs no more memory than ``spec``, or None.

    For one lever key, memory grows only with the micro-batch. Loader trials use no device memory. A failed memory trial
    also blocks timed trials of its own micro-batch: a configuration that fails in the worst case cannot be used.
    """
    if isinstance(spec, LoaderSpec):
        return None
    for record in _last_records(records).values():
        if record.status != "oom" or isinstance(record.spec, LoaderSpec) or record.spec.lever_key != spec.lever_key:
            continue
        is_larger = spec.micro_batch_size > record.spec.micro_batch_size
        is_same = spec.micro_batch_size == record.spec.micro_batch_size
        if is_larger or (is_same and isinstance(record.spec, MemorySpec) and not isinstance(spec, MemorySpec)):
            return record
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Try:
    task: TrialTask
    number: int
    """Number of the try in this sweep, from 1."""
    last: TrialRecord | None
    """Record of the previous try."""


def _next_try(this: _Try, record: TrialRecord) -> _Try:
    task = replace(this.task, attempt=this.task.attempt + 1)
    return _Try(task=task, number=this.number + 1, last=record)


def _task_of(trial: DueTrial, corpus_directory: str) -> TrialTask:
    spec = trial.planned.spec
    return TrialTask(
        spec=spec,
        replicate=trial.planned.replicate,
        attempt=trial.attempt,
        corpus_directory=corpus_directory if isinstance(spec, ImagesSpec) else None,
    )


def _skipped(task: TrialTask, blocker: TrialRecord, environment: Environment) -> TrialRecord:
    what = "the worst case" if isinstance(blocker.spec, MemorySpec) else "training"
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
