"""Running the trials of a design one after the other, and what they leave for the next run of the same command."""

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
    "the GPU is gone (dmesg may tell why, as an Xid): the sweep ends here, and what had finished is kept; bring the "
    "GPU back, and run the same command with --retry crashed,timeout"
)
"""What is said when a sweep ends for want of its device."""


UNUSABLE_IMAGES = "the images cannot be used as they are, so the sweep ends here; what had finished is kept: {}"
"""What is said when a sweep ends at a trial that met a file which it cannot use: every further trial would meet it."""


class BudgetSpentError(Exception):
    """A trial was ended by the sweep's time budget: it has no record, as if it had not been started."""


class SweepObserver(Protocol):
    """Who is told how a sweep goes on."""

    def started(self, spec: TrialSpec, number: int) -> None:
        """Take note that a try at a trial starts, the first with ``number`` 1."""

    def repeated(self, record: TrialRecord) -> None:
        """Take note that a trial ended disturbed, and waits behind all others for another try."""

    def finished(self, record: TrialRecord) -> None:
        """Take note that a trial ended for good, or was skipped; ``record`` is of its last try."""

    def noted(self, message: str) -> None:
        """Take note of something about the sweep as a whole."""


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
    environment: Environment,
    observer: SweepObserver,
    max_attempts: int,
    is_device_there: Callable[[], bool],
    takes_s: Callable[[TrialSpec], float] = lambda spec: 0.0,
    deadline: float | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[TrialRecord]:
    """Run trials and yield the record of each as soon as it exists.

    A trial whose family ran out of memory in this or a smaller micro-batch is not run: its record is ``skipped`` and
    names the trial that failed. ``records`` are those of earlier runs, which count for this too. No trial starts that,
    at ``takes_s``, would end after ``deadline`` on ``clock``: the next one that fits goes first. None starts after a
    failure that looks like the loss of the GPU if ``is_device_there`` denies it, after a trial that met an image file
    which cannot be used, nor after ``run`` raises BudgetSpentError.

    A disturbed trial is run again after all others, when what disturbed it may have passed, up to ``max_attempts``
    tries, each of which is yielded; repeats.Repeats says when that is given up.
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
    if not_retried and deadline is not None:
        observer.noted(
            f"no time is left to try {count(len(not_retried), 'disturbed trial')} again: the time budget is used up"
        )
    verdict = repeats.verdict()
    if verdict is not None:
        observer.noted(verdict)


def is_of_unusable_image(record: TrialRecord) -> bool:
    """Return whether a trial ended at an image file that cannot be used."""
    return record.cause is not None and record.cause.kind == "unusable-image"


def _reason_to_end(record: TrialRecord, *, is_device_there: Callable[[], bool]) -> str | None:
    """Return why no trial is to start after one that left ``record``; None if the next one may."""
    if record.cause is not None and is_of_unusable_image(record):
        return UNUSABLE_IMAGES.format(record.cause.message)
    return DEVICE_LOST if may_have_lost_device(record) and not is_device_there() else None


def _take_next(waiting: deque[_Try], *, takes_s: Callable[[TrialSpec], float], left_s: float) -> _Try | None:
    """Take the first trial that ends in the time left; None where none does."""
    if left_s <= 0:
        return None
    this = next((one for one in waiting if takes_s(one.task.spec) <= left_s), None)
    if this is not None:
        waiting.remove(this)
    return this


def find_blocker(spec: TrialSpec, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return a trial that ran out of memory and whose configuration ``spec`` can only exceed, or None.

    Memory grows with the micro-batch and with nothing else inside a lever key; a loader trial takes none of the
    device's. A memory trial blocks the timed trials of its own micro-batch too: a configuration that does not survive
    the worst case is none to train with.
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
    """Which try of this sweep, from 1."""
    last: TrialRecord | None
    """What the try before left."""


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
