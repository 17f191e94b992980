"""Certify from worst-case memory trials how much memory a configuration needs, and which cards have it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB, USABLE
from vnbench.analysis.trials.summary import by_spec, latest_attempts, peak_bytes
from vnbench.records.readings import MemoryReading
from vnbench.records.record import Cause, Status, TrialRecord, of_kind
from vnbench.records.spec.trial_spec import MemorySpec, ObservedSpec, TrialSpec
from vnbench.units import BYTES_PER_UNIT

Verdict = Literal["fits", "tight", "does not fit", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """Worst-case memory of one memory spec over its processes: alone, or after passes of mixed widths."""

    spec: MemorySpec
    """The spec."""
    status: Status
    """``oom`` if any process ran out of memory, else ``ok`` if any ended ``ok``, else the status of the first."""
    cause: Cause | None
    """Why it did not end ``ok``; None if it did."""
    reading: MemoryReading | None
    """Reading of the process with the largest peak; None if no process ended ``ok``."""
    need_bytes: int | None
    """Memory reserved by the allocator plus memory outside of it (CUDA); memory held by tensors (CPU, where no more is
    known); None without a reading."""
    capacity_bytes: int | None
    """Memory that was available; None if unknown."""

    def verdict(self, memory_bytes: float) -> Verdict:
        """Return whether a device with this memory holds the worst case, by this trial alone.

        ``fits`` leaves a margin of at least 1 - USABLE, ``tight`` less. A trial whose allocator emptied its cache and
        retried was at the limit of its memory, so it is ``tight`` on a device without more.
        """
        if self.status == "oom":
            is_certain = self.capacity_bytes is not None and memory_bytes <= self.capacity_bytes
            return "does not fit" if is_certain else "unknown"
        if self.need_bytes is None:
            return "unknown"
        if self.need_bytes > memory_bytes:
            return "does not fit"
        has_retried = self.reading is not None and bool(self.reading.num_alloc_retries)
        is_at_edge = has_retried and self.capacity_bytes is not None and memory_bytes <= self.capacity_bytes
        return "tight" if is_at_edge or self.need_bytes > USABLE * memory_bytes else "fits"

    @property
    def cards(self) -> dict[int, Verdict]:
        """The verdicts for common cards, by memory in GiB."""
        return {size: self.verdict(size * BYTES_PER_UNIT["GiB"]) for size in CARD_SIZES_GIB}


def certify(records: Iterable[TrialRecord]) -> tuple[Certificate, ...]:
    """Return one certificate per memory spec, in the order of first appearance, then one per observed run on CUDA.

    What a run held after the largest pass of its epochs, it holds again.
    """
    latest = latest_attempts(records)
    seen = [_as_memory_trial(record) for record in of_kind(latest, ObservedSpec)]
    return tuple(
        _certify(processes)
        for processes in by_spec([*latest, *(record for record in seen if record is not None)], MemorySpec)
    )


def _as_memory_trial(record: TrialRecord[ObservedSpec]) -> TrialRecord[MemorySpec] | None:
    """Return an observed run as a trial of its largest pass; None if the allocator's peak is unknown."""
    if record.observed is None or peak_bytes(record.memory) is None:
        return None
    shared = {one.name: getattr(record.spec, one.name) for one in fields(TrialSpec)} | dict(MemorySpec.lacks)
    height, width = record.observed.largest_canvas
    spec = MemorySpec(**shared, worst_case_height=height, worst_case_width=width)
    return TrialRecord(
        spec=spec,
        replicate=record.replicate,
        attempt=record.attempt,
        status=record.status,
        cause=record.cause,
        environment=record.environment,
        started_at=record.started_at,
        elapsed_s=record.elapsed_s,
        memory=record.memory,
    )


def _certify(processes: tuple[TrialRecord[MemorySpec], ...]) -> Certificate:
    by_status = {record.status: record for record in reversed(processes)}
    decisive = by_status.get("oom") or by_status.get("ok") or processes[0]
    measured = [record.memory for record in processes if record.status == "ok" and record.memory is not None]
    reading = max(measured, key=lambda one: peak_bytes(one) or 0, default=None)
    peak = peak_bytes(reading)
    assert reading is not None or peak is None
    known = [size for record in processes if (size := _capacity_bytes(record)) is not None]
    return Certificate(
        spec=decisive.spec,
        status=decisive.status,
        cause=decisive.cause,
        reading=reading,
        need_bytes=None if reading is None or peak is None else peak + (reading.outside_allocator_bytes or 0),
        capacity_bytes=max(known, default=None),
    )


def _capacity_bytes(record: TrialRecord) -> int | None:
    """Return the memory that a trial had: its limit, its reading, or (of a failed trial) its environment's value."""
    if record.spec.memory_limit_bytes is not None:
        return record.spec.memory_limit_bytes
    if record.memory is not None and record.memory.capacity_bytes is not None:
        return record.memory.capacity_bytes
    size = record.environment.get("device_memory_bytes")
    return size if isinstance(size, int) else None
