"""One line per trial from its raw record: throughput, step time, padding, waiting, worst-case memory, epoch time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vnbench.analysis.stats import Estimate, ratio_of_sums
from vnbench.record import MemoryReading, Status, TrialRecord, TrialWarning
from vnbench.spec import TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySummary:
    """Worst-case memory of one family: the trials that share memory behaviour."""

    spec: TrialSpec
    """Spec of the trial that the figures come from."""
    status: Status
    """``oom`` if any replicate ran out of memory, else ``ok`` if any ended so, else how the first one ended."""
    cause: str | None
    """Why, unless ``ok``; one line."""
    peak_bytes: int | None
    """Largest peak of the replicates, None unless ``ok``: reserved by the allocator (CUDA), held by tensors (CPU)."""
    capacity_bytes: int | None
    """Memory of the device; of the host, or its container, on the CPU."""

    @property
    def family(self) -> str:
        """Name of the trials that the figures hold for."""
        return self.spec.family


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """One replicate of one training spec. A figure that was not measured, or must not be used, is None.

    Times and throughputs are None unless the trial ended ``ok`` and the caching allocator never had to retry: a retry
    gives the cache back to the driver in the middle of a step. Half-widths are of two-sided 95 % intervals over the
    steps of this one process (vnbench.analysis.stats).
    """

    spec: TrialSpec
    """What was asked."""
    replicate: int
    """Which repetition of the spec, from 0."""
    status: Status
    """How it ended."""
    cause: str | None
    """Why it has no figures, in one line; None where it has."""
    warnings: tuple[TrialWarning, ...]
    """Reasons for doubt, from the record."""
    num_steps: int | None = None
    """Measured optimizer steps, those that the gradient scaler skipped left out."""
    num_skipped_steps: int | None = None
    """Measured steps whose update the gradient scaler left out."""
    valid_px_per_s: float | None = None
    """Valid pixels of the measured block per second of its wall clock, skipped steps left out."""
    valid_relative_half_width: float | None = None
    """Half-width of valid_px_per_s, relative to it."""
    padded_px_per_s: float | None = None
    """Padded pixels of the measured block per second of its wall clock, skipped steps left out."""
    padded_relative_half_width: float | None = None
    """Half-width of padded_px_per_s, relative to it."""
    step_time_s: float | None = None
    """Mean seconds per optimizer step, skipped steps left out."""
    step_time_half_width_s: float | None = None
    """Half-width of step_time_s, in seconds.

    It is that of the seconds per padded pixel: the canvases of the subset are fixed, so that steps on them take
    different times is no uncertainty.
    """
    data_wait_ratio: float | None = None
    """Share of the measured steps' time that the training process waited for the loader."""
    padding_ratio: float | None = None
    """Padding waste of the plan of all training examples."""
    lower_bound_padding_ratio: float | None = None
    """No grouping of all training examples into as many micro-batches pads less than this."""
    subset_padding_ratio: float | None = None
    """Padding waste of the measured block."""
    num_examples: int | None = None
    """Training examples of the whole plan."""
    epoch_time_s: float | None = None
    """Seconds per epoch of all training examples: seconds per padded pixel of the block times the plan's padded pixels.

    Taken as proportional to padded pixels: it is off where the canvases of the block are not those of the plan.
    """
    epoch_time_half_width_s: float | None = None
    """Half-width of epoch_time_s, in seconds."""
    worst_case_status: Status | None = None
    """How the worst-case step of the family ended; None where no memory trial covers it."""
    worst_case_peak_bytes: int | None = None
    """Peak of the worst-case step of the family (MemorySummary.peak_bytes)."""
    capacity_bytes: int | None = None
    """Memory of the device; of the host, or its container, on the CPU."""


def latest_attempts(records: Iterable[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Return the last attempt of every (spec_id, replicate), in the order of first appearance.

    Of two records with the same attempt the later one counts. A spec does not name the machine: records of several
    machines have to be told apart before.
    """
    latest: dict[tuple[str, int], TrialRecord] = {}
    for record in records:
        key = (record.spec_id, record.replicate)
        if key not in latest or record.attempt >= latest[key].attempt:
            latest[key] = record
    return tuple(latest.values())


def summarize_memory(records: Iterable[TrialRecord]) -> tuple[MemorySummary, ...]:
    """Return one summary per family that has memory trials, in the order of first appearance.

    Where a family was tried at several sizes, only the largest (height x width) is its worst case.
    """
    families: dict[str, list[TrialRecord]] = {}
    for record in latest_attempts(records):
        if record.kind == "memory":
            families.setdefault(record.spec.family, []).append(record)
    return tuple(map(_summarize_family, families.values()))


def summarize(records: Iterable[TrialRecord]) -> tuple[TrialSummary, ...]:
    """Return one summary per training spec and replicate, in the order of first appearance.

    Worst-case memory comes from the memory trials of the same family.
    """
    latest = latest_attempts(records)
    memory = {summary.family: summary for summary in summarize_memory(latest)}
    return tuple(
        _summarize_training(record, memory.get(record.spec.family)) for record in latest if record.kind == "training"
    )


def _summarize_family(records: Sequence[TrialRecord]) -> MemorySummary:
    def area(record: TrialRecord) -> int:
        return (record.spec.worst_case_height or 0) * (record.spec.worst_case_width or 0)

    largest = [record for record in records if area(record) == max(map(area, records))]
    by_status = {record.status: record for record in reversed(largest)}
    decisive = by_status.get("oom") or by_status.get("ok") or largest[0]
    peaks = [peak for record in largest if (peak := _peak_bytes(record.memory)) is not None]
    capacities = [reading.capacity_bytes for record in largest if (reading := record.memory) and reading.capacity_bytes]
    return MemorySummary(
        spec=decisive.spec,
        status=decisive.status,
        cause=decisive.cause.message if decisive.cause else None,
        peak_bytes=max(peaks, default=None) if decisive.status == "ok" else None,
        capacity_bytes=max(capacities, default=None),
    )


def _peak_bytes(reading: MemoryReading | None) -> int | None:
    """Return the peak that has to fit, in bytes; None where the instrument saw only the whole process."""
    if reading is None or reading.instrument == "process":
        return None
    if reading.instrument == "cuda-caching-allocator":
        return reading.peak_reserved_bytes
    return reading.peak_allocated_bytes


def _summarize_training(record: TrialRecord, memory: MemorySummary | None) -> TrialSummary:
    plan, block, reading = record.batching, record.block, record.memory
    own_capacity = reading.capacity_bytes if reading else None
    bare = TrialSummary(
        spec=record.spec,
        replicate=record.replicate,
        status=record.status,
        cause=record.cause.message if record.cause else None,
        warnings=record.warnings,
        num_examples=plan.num_examples if plan else None,
        padding_ratio=plan.padding_ratio if plan else None,
        lower_bound_padding_ratio=plan.lower_bound_padding_ratio if plan else None,
        subset_padding_ratio=1 - block.valid_pixels / block.padded_pixels if block and block.padded_pixels else None,
        worst_case_status=memory.status if memory else None,
        worst_case_peak_bytes=memory.peak_bytes if memory else None,
        capacity_bytes=memory.capacity_bytes if memory and memory.capacity_bytes else own_capacity,
    )
    if record.status != "ok":
        return bare
    if reading and reading.num_alloc_retries:
        return replace(bare, cause=f"the allocator retried {reading.num_alloc_retries} times: its timing is not valid")
    return _with_times(bare, record)


def _with_times(bare: TrialSummary, record: TrialRecord) -> TrialSummary:
    """Return the summary with every time and throughput that the record's steps and block support."""
    measured = _measured(record.steps)
    skipped = [bool(flag) for flag in measured.get("is_skipped_by_scaler", ())]
    steps = {name: _without(column, skipped) for name, column in measured.items()}
    times = steps.get("step_time_s", ())
    step_time_s = sum(times) / len(times) if times else None
    per_valid_px = _ratio(times, steps.get("valid_pixels", ()))
    per_padded_px = _ratio(times, steps.get("padded_pixels", ()))
    data_wait = _ratio(steps.get("data_wait_s", ()), times)
    padded_relative = per_padded_px.relative_half_width if per_padded_px else None
    valid_px_per_s = padded_px_per_s = epoch_time_s = None
    if any(skipped):
        # The block's wall clock holds the skipped steps too, so only the steps' own times are of use.
        valid_px_per_s = 1 / per_valid_px.value if per_valid_px else None
        padded_px_per_s = 1 / per_padded_px.value if per_padded_px else None
    elif (block := record.block) and block.wall_time_s > 0 and block.padded_pixels > 0:
        valid_px_per_s = block.valid_pixels / block.wall_time_s
        padded_px_per_s = block.padded_pixels / block.wall_time_s
    if padded_px_per_s and record.batching:
        epoch_time_s = record.batching.padded_pixels / padded_px_per_s
    return replace(
        bare,
        num_steps=len(times) if measured else None,
        num_skipped_steps=sum(skipped) if skipped else None,
        valid_px_per_s=valid_px_per_s,
        valid_relative_half_width=per_valid_px.relative_half_width if per_valid_px else None,
        padded_px_per_s=padded_px_per_s,
        padded_relative_half_width=padded_relative,
        step_time_s=step_time_s,
        step_time_half_width_s=_times(step_time_s, padded_relative),
        data_wait_ratio=data_wait.value if data_wait else None,
        epoch_time_s=epoch_time_s,
        epoch_time_half_width_s=_times(epoch_time_s, padded_relative),
    )


def _measured(steps: Mapping[str, tuple[Any, ...]] | None) -> dict[str, tuple[Any, ...]]:
    """Return the columns without warm-up steps; those with a missing value are left out, as nothing sums over them."""
    if not steps:
        return {}
    is_warm_up = steps["is_warm_up"]
    measured = {
        name: tuple(value for value, warm_up in zip(column, is_warm_up, strict=True) if not warm_up)
        for name, column in steps.items()
    }
    return {name: column for name, column in measured.items() if None not in column}


def _without(column: tuple[Any, ...], left_out: Sequence[bool]) -> tuple[Any, ...]:
    return tuple(value for value, skip in zip(column, left_out, strict=True) if not skip) if left_out else column


def _times(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor


def _ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    if len(numerators) != len(denominators) or not sum(denominators) > 0:
        return None
    return ratio_of_sums(numerators, denominators)
