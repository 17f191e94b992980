"""The search for the largest micro-batch of each configuration."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from vnbench.analysis.models.max_batch import next_probe, next_smaller, result
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.task import TrialTask


class SearchObserver(Protocol):
    """Receiver of a search's progress."""

    def started(self, spec: MemorySpec, records: Sequence[TrialRecord[MemorySpec]]) -> None:
        """Called when a probe starts, after those in ``records``."""

    def finished(self, record: TrialRecord) -> None:
        """Called when a probe ends."""


def search_max_batches(
    bases: Sequence[MemorySpec],
    *,
    records: Sequence[TrialRecord],
    run: Callable[[TrialTask], TrialRecord],
    observer: SearchObserver,
    most: int,
    retry: Sequence[str] = (),
    takes_s: Callable[[MemorySpec], float] = lambda spec: 0.0,
    deadline: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[TrialRecord]:
    """Run the probes of each configuration and yield each record as soon as it exists.

    ``bases`` holds memory specs of one example. ``records`` of earlier runs count; those with a status in ``retry`` are
    tried again first. A probe that, by ``takes_s``, would end after ``deadline`` on ``clock`` does not start.
    """
    known = list(records)

    def run_one(task: TrialTask[MemorySpec], own: Sequence[TrialRecord[MemorySpec]]) -> TrialRecord:
        observer.started(task.spec, own)
        record = run(task)
        known.append(record)
        observer.finished(record)
        return record

    def is_late(spec: MemorySpec) -> bool:
        return deadline is not None and clock() + takes_s(spec) >= deadline

    for base in bases:
        for old in probes_of(base, known):
            if old.status in retry and not is_late(old.spec):
                yield run_one(_task(old.spec, old.replicate, known), probes_of(base, known))
        while (probe := next_probe(probes_of(base, known), most=most)) is not None:
            spec = with_micro_batch(base, probe.micro_batch_size)
            if is_late(spec):
                break
            yield run_one(_task(spec, probe.replicate, known), probes_of(base, known))
        while (smaller := _next_smaller(base, known, most=most)) is not None and not is_late(smaller):
            yield run_one(_task(smaller, 0, known), probes_of(base, known))


def is_at_its_end(base: MemorySpec, records: Sequence[TrialRecord], *, most: int) -> bool:
    """Return whether a search has no further probe to run."""
    return next_probe(probes_of(base, records), most=most) is None and _next_smaller(base, records, most=most) is None


def _next_smaller(base: MemorySpec, records: Sequence[TrialRecord], *, most: int) -> MemorySpec | None:
    """Return the next smaller canvas to try if not even one example fits; None otherwise."""
    own = probes_of(base, records)
    if not own or result(own).largest or next_probe(own, most=most) is not None:
        return None
    return next_smaller(base, smaller_probes_of(base, records))


def probes_of(base: MemorySpec, records: Sequence[TrialRecord]) -> tuple[TrialRecord[MemorySpec], ...]:
    """Return the last attempts of the trials that differ from ``base`` only in the micro-batch."""
    last: dict[tuple[int, int], TrialRecord[MemorySpec]] = {}
    for record in of_kind(records, MemorySpec):
        key = (record.spec.micro_batch_size, record.replicate)
        if with_micro_batch(record.spec, 1) == base and (key not in last or record.attempt >= last[key].attempt):
            last[key] = record
    return tuple(last.values())


def smaller_probes_of(base: MemorySpec, records: Sequence[TrialRecord]) -> tuple[TrialRecord[MemorySpec], ...]:
    """Return the trials of one example that differ from ``base`` only in a smaller width, the widest first."""
    last: dict[int, TrialRecord[MemorySpec]] = {}
    for record in of_kind(records, MemorySpec):
        width = record.spec.worst_case_width
        if record.replicate or width >= base.worst_case_width:
            continue
        is_own = dataclasses.replace(record.spec, worst_case_width=base.worst_case_width) == base
        if is_own and (width not in last or record.attempt >= last[width].attempt):
            last[width] = record
    return tuple(last[width] for width in sorted(last, reverse=True))


def with_micro_batch(spec: MemorySpec, size: int) -> MemorySpec:
    """Return the spec with ``size`` examples per pass and per step."""
    return dataclasses.replace(spec, batch_size=size, micro_batch_size=size)


def _task(spec: MemorySpec, replicate: int, known: Sequence[TrialRecord]) -> TrialTask[MemorySpec]:
    attempts = [record.attempt for record in known if (record.spec, record.replicate) == (spec, replicate)]
    return TrialTask(spec=spec, replicate=replicate, attempt=max(attempts, default=-1) + 1, corpus_directory=None)
