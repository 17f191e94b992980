"""Running the searches for the largest micro-batch, one configuration after the other."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from vnbench.analysis.max_batch import Probe, next_probe
from vnbench.harness.task import TrialTask
from vnbench.record import TrialRecord
from vnbench.spec import TrialSpec


class SearchObserver(Protocol):
    """Who is told how a search goes on."""

    def started(self, spec: TrialSpec, records: Sequence[TrialRecord]) -> None:
        """Take note that a probe starts, after those of ``records``."""

    def finished(self, record: TrialRecord) -> None:
        """Take note of how a probe ended."""


def search_max_batches(
    bases: Sequence[TrialSpec],
    *,
    records: Sequence[TrialRecord],
    run: Callable[[TrialTask], TrialRecord],
    observer: SearchObserver,
    most: int,
    retry: Sequence[str] = (),
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[TrialRecord]:
    """Run the probes of each configuration and yield their records as soon as they exist.

    ``bases`` are memory specs of one example. ``records`` of earlier runs count, except those with a status in
    ``retry``, whose trials are tried again. No probe starts after ``deadline`` on ``clock``.
    """
    known = list(records)
    for base in bases:
        while not (deadline is not None and clock() >= deadline):
            probe = next_probe(probes_of(base, known, retry=retry), most=most)
            if probe is None:
                break
            task = _task(base, probe, known)
            observer.started(task.spec, probes_of(base, known, retry=retry))
            record = run(task)
            known.append(record)
            # What was tried again counts, however it ended.
            retry = [status for status in retry if status != record.status]
            observer.finished(record)
            yield record


def probes_of(base: TrialSpec, records: Sequence[TrialRecord], *, retry: Sequence[str] = ()) -> tuple[TrialRecord, ...]:
    """Return the last attempts of the trials that differ from ``base`` in their micro-batch alone.

    Those whose status is in ``retry`` are left out.
    """
    last: dict[tuple[int, int], TrialRecord] = {}
    for record in records:
        key = (record.spec.micro_batch_size, record.replicate)
        if with_micro_batch(record.spec, 1) == base and (key not in last or record.attempt >= last[key].attempt):
            last[key] = record
    return tuple(record for record in last.values() if record.status not in retry)


def with_micro_batch(spec: TrialSpec, size: int) -> TrialSpec:
    """Return the spec with so many examples per pass and per step."""
    return dataclasses.replace(spec, batch_size=size, micro_batch_size=size)


def _task(base: TrialSpec, probe: Probe, known: Sequence[TrialRecord]) -> TrialTask:
    spec = with_micro_batch(base, probe.micro_batch_size)
    attempts = [record.attempt for record in known if (record.spec, record.replicate) == (spec, probe.replicate)]
    return TrialTask(spec=spec, replicate=probe.replicate, attempt=max(attempts, default=-1) + 1, corpus_directory=None)
