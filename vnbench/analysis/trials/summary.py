"""Summarise training and memory trials, per spec or family: throughput, padding, waiting, memory, epoch time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.process_spread import PooledFigure, Spread, pooled
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.analysis.trials.noisy import StoppedFigure, capped_stop, settled_warnings
from vnbench.analysis.trials.observed import joined_epochs
from vnbench.analysis.trials.process import StepFigures, training_figures, weighted_power_w, why_not_timed
from vnbench.analysis.trials.steps import steps_of
from vnbench.records.readings import BatchingAccount, MemoryReading
from vnbench.records.record import Kind, Status, TrialRecord, TrialWarning, is_of_kind, of_kind
from vnbench.records.spec.trial_spec import MemorySpec, ObservedSpec, TrainingSpec

SAYING_NOTHING: tuple[Status, ...] = ("timeout", "crashed", "skipped")
"""Statuses of attempts without figures, which never replace an earlier attempt that measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemorySummary:
    """Worst-case memory of one family: the trials that share memory behaviour."""

    spec: MemorySpec
    """Spec of the trial that the figures come from."""
    status: Status
    """``oom`` if any replicate ran out of memory, else ``ok`` if any ended ``ok``, else that of the first."""
    cause: str | None
    """Why it did not end ``ok``, in one line; None if it did."""
    peak_bytes: int | None
    """Largest peak of the replicates: reserved by the allocator (CUDA) or held by tensors (CPU); None unless ``ok``."""
    capacity_bytes: int | None
    """Memory of the device; on the CPU, memory of the host or container."""

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.spec.family


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """One training spec over its processes. A figure that was not measured, or is not valid, is None.

    Times and throughputs come only from processes that ended ``ok`` and whose caching allocator never retried. Times
    are means over these processes; a throughput is the inverse of such a mean. Half-widths are those of two-sided 95 %
    intervals. If relative_between is known, they include the spread between processes
    (analysis.statistics.process_spread); otherwise they cover only the steps of one process (statistics.means).
    """

    spec: TrainingSpec
    """The spec."""
    status: Status
    """``ok`` if any process ended ``ok``, else the status of the first process."""
    cause: str | None
    """Why there are no figures, in one line; None if there are."""
    warnings: tuple[TrialWarning, ...]
    """Warnings of all processes, without repeats."""
    num_processes: int = 0
    """Number of processes with valid times."""
    failures: tuple[str, ...] = ()
    """How each other process ended, such as ``oom: CUDA out of memory``."""
    relative_within: float | None = None
    """Relative standard error of padded_px_per_s over the steps of a process, root mean square over the processes."""
    relative_between: float | None = None
    """Further relative standard deviation between processes, pooled over the sweep's repeated specs; None if no spec
    ran in two processes."""
    num_steps: int | None = None
    """Measured optimizer steps of all processes, without those that the gradient scaler skipped."""
    num_skipped_steps: int | None = None
    """Measured steps that the gradient scaler skipped."""
    valid_px_per_s: Estimate | None = None
    """Valid pixels per second of wall clock in the measured blocks, without skipped steps."""
    padded_px_per_s: Estimate | None = None
    """Padded pixels per second of wall clock in the measured blocks, without skipped steps."""
    step_time: Estimate | None = None
    """Mean seconds per optimizer step, without skipped steps.

    It has the relative error of the seconds per padded pixel: the canvases of the subset are fixed, so differences
    between them are not an uncertainty.
    """
    data_wait_ratio: float | None = None
    """Share of the measured steps' time that the training process waited for the loader."""
    power_w: float | None = None
    """Mean power of the device during measuring, in watts, weighted by time; energy is this times time."""
    padding_ratio: float | None = None
    """Padding ratio of the plan of all training examples."""
    lower_bound_padding_ratio: float | None = None
    """Lower bound of padding_ratio for any grouping into the same number of micro-batches."""
    repeated_pair_ratio: float | None = None
    """Share of the pairs within a step that also shared a step one epoch before, or two, whichever is larger."""
    num_passes: int | None = None
    """Forward and backward passes of the plan of all training examples."""
    largest_padded_pixels: int | None = None
    """Padded pixels of the largest micro-batch of that plan."""
    subset_padding_ratio: float | None = None
    """Padding ratio of the measured blocks."""
    num_examples: int | None = None
    """Training examples of the whole plan."""
    num_valid_pixels: int | None = None
    """Valid pixels of these examples, equal for all configurations on a corpus."""
    epoch_time: Estimate | None = None
    """Seconds per epoch of all training examples: seconds per padded pixel of the blocks times the plan's pixels.

    Assumes proportionality to padded pixels, so it is wrong if the blocks have other canvases than the plan.
    """
    worst_case_status: Status | None = None
    """Status of the worst-case step of the family; None without a memory trial."""
    worst_case_peak_bytes: int | None = None
    """Peak of the worst-case step of the family (MemorySummary.peak_bytes)."""
    capacity_bytes: int | None = None
    """Memory of the device; on the CPU, memory of the host or container."""


def latest_attempts(records: Iterable[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Return the last attempt at every (spec_id, replicate), in the order of first appearance.

    A failed repeat never replaces a measurement. Of two records with the same attempt, the later one counts. A spec
    does not name the machine, so separate the records of several machines first. The epochs of an observed run are its
    attempts, and all of them together are the run.
    """
    latest: dict[tuple[str, int], TrialRecord] = {}
    epochs: dict[tuple[str, int], list[TrialRecord[ObservedSpec]]] = {}
    for record in records:
        key = (record.spec_id, record.replicate)
        if is_of_kind(record, ObservedSpec):
            epochs.setdefault(key, []).append(record)
            latest[key] = record
        elif key not in latest or _displaces(record, latest[key]):
            latest[key] = record
    joined = {key: joined_epochs(found) for key, found in epochs.items()}
    return tuple((latest | joined).values())


def _displaces(record: TrialRecord, other: TrialRecord) -> bool:
    if other.status == "ok" and record.status in SAYING_NOTHING:
        return False
    if record.status == "ok" and other.status in SAYING_NOTHING:
        return True
    return record.attempt >= other.attempt


def summarize_memory(records: Iterable[TrialRecord]) -> tuple[MemorySummary, ...]:
    """Return one summary per family with memory trials, in the order of first appearance.

    If a family was tried at several sizes, the largest (height x width) is its worst case.
    """
    families: dict[str, list[TrialRecord[MemorySpec]]] = {}
    for record in of_kind(latest_attempts(records), MemorySpec):
        families.setdefault(record.spec.family, []).append(record)
    return tuple(map(_summarize_family, families.values()))


def summarize(records: Iterable[TrialRecord], *, noise: Noise | None = None) -> tuple[TrialSummary, ...]:
    """Return one summary per training spec, in the order of first appearance.

    Worst-case memory comes from the memory trials of the same family, run-to-run spread from every repeated spec.
    Pass the ``noise`` of the records if it is already known.
    """
    latest = latest_attempts(records)
    memory = {summary.family: summary for summary in summarize_memory(latest)}
    noise = noise or measure_noise(latest)
    return tuple(
        _summarize_training(processes, memory.get(processes[0].spec.family), noise.spread_for(processes[0].kind))
        for processes in by_spec(latest, TrainingSpec)
    )


def by_spec(latest: Iterable[TrialRecord], kind: type[Kind]) -> tuple[tuple[TrialRecord[Kind], ...], ...]:
    """Return the records of one kind, grouped by spec, in the order of first appearance."""
    specs: dict[str, list[TrialRecord[Kind]]] = {}
    for record in of_kind(latest, kind):
        specs.setdefault(record.spec_id, []).append(record)
    return tuple(map(tuple, specs.values()))


def distinct_warnings(processes: Iterable[TrialRecord]) -> tuple[TrialWarning, ...]:
    """Return the warnings of all processes, without repeats."""
    distinct: list[TrialWarning] = []
    for warning in (warning for record in processes for warning in record.warnings):
        if warning not in distinct:
            distinct.append(warning)
    return tuple(distinct)


def _summarize_family(records: Sequence[TrialRecord[MemorySpec]]) -> MemorySummary:
    def area(record: TrialRecord[MemorySpec]) -> int:
        return record.spec.worst_case_height * record.spec.worst_case_width

    largest = [record for record in records if area(record) == max(map(area, records))]
    by_status = {record.status: record for record in reversed(largest)}
    decisive = by_status.get("oom") or by_status.get("ok") or largest[0]
    peaks = [peak for record in largest if (peak := peak_bytes(record.memory)) is not None]
    capacities = [reading.capacity_bytes for record in largest if (reading := record.memory) and reading.capacity_bytes]
    return MemorySummary(
        spec=decisive.spec,
        status=decisive.status,
        cause=decisive.cause.message if decisive.cause else None,
        peak_bytes=max(peaks, default=None) if decisive.status == "ok" else None,
        capacity_bytes=max(capacities, default=None),
    )


def peak_bytes(reading: MemoryReading | None) -> int | None:
    """Return the peak that the device must hold, in bytes; None if the instrument saw only the whole process."""
    if reading is None or reading.instrument == "process":
        return None
    if reading.instrument == "cuda-caching-allocator":
        return reading.peak_reserved_bytes
    return reading.peak_allocated_bytes


def _summarize_training(
    processes: Sequence[TrialRecord[TrainingSpec]], memory: MemorySummary | None, spread: Spread | None
) -> TrialSummary:
    plan = next((record.batching for record in processes if record.batching), None)
    blocks = [record.block for record in processes if record.block and record.block.padded_pixels]
    capacities = [record.memory.capacity_bytes for record in processes if record.memory]
    padding_ratios = [1 - block.valid_pixels / block.padded_pixels for block in blocks]
    reasons = [(record.status, reason) for record in processes if (reason := why_not_timed(record)) is not None]
    timed = [(record, figures) for record in processes if (figures := training_figures(record)) is not None]
    bare = TrialSummary(
        spec=processes[0].spec,
        status="ok" if any(record.status == "ok" for record in processes) else processes[0].status,
        cause=None if timed else reasons[0][1],
        warnings=distinct_warnings(processes),
        num_processes=len(timed),
        failures=tuple(f"{status}: {reason}" for status, reason in reasons),
        num_examples=plan.num_examples if plan else None,
        num_valid_pixels=plan.valid_pixels if plan else None,
        padding_ratio=plan.padding_ratio if plan else None,
        lower_bound_padding_ratio=plan.lower_bound_padding_ratio if plan else None,
        repeated_pair_ratio=_most_repeated(plan) if plan else None,
        num_passes=plan.num_batches if plan else None,
        largest_padded_pixels=plan.largest_padded_pixels if plan else None,
        subset_padding_ratio=sum(padding_ratios) / len(padding_ratios) if padding_ratios else None,
        worst_case_status=memory.status if memory else None,
        worst_case_peak_bytes=memory.peak_bytes if memory else None,
        capacity_bytes=memory.capacity_bytes if memory and memory.capacity_bytes else next(iter(capacities), None),
    )
    return _with_times(bare, timed, spread, padded_pixels=plan.padded_pixels if plan else None) if timed else bare


def _most_repeated(plan: BatchingAccount) -> float | None:
    ratios = (plan.repeated_pair_ratio, plan.repeated_pair_ratio_two_before)
    return max((ratio for ratio in ratios if ratio is not None), default=None)


def _with_times(
    bare: TrialSummary,
    timed: Sequence[tuple[TrialRecord, StepFigures]],
    spread: Spread | None,
    *,
    padded_pixels: int | None,
) -> TrialSummary:
    """Return the summary with the times and throughputs of its processes."""
    figures = [one for _, one in timed]

    def over_processes(choose: Callable[[StepFigures], Estimate | None]) -> PooledFigure | None:
        known = [figure for one in figures if (figure := choose(one)) is not None]
        return pooled(known, spread=spread) if known else None

    valid = over_processes(lambda one: one.valid_time)
    padded = over_processes(lambda one: one.padded_time)
    step = over_processes(lambda one: one.step_time)
    waits = [one.data_wait_ratio for one in figures if one.data_wait_ratio is not None]
    stop = capped_stop([record.stop for record, _ in timed if record.stop])
    stopped = [StoppedFigure(stop=stop, relative_half_width=valid.relative_half_width)] if stop and valid else []
    return replace(
        bare,
        warnings=settled_warnings(bare.spec, bare.warnings, stopped, part=None, spread=spread),
        relative_within=padded.relative_within if padded else None,
        relative_between=padded.relative_between if padded else None,
        num_steps=sum(one.num_steps for one in figures),
        num_skipped_steps=sum(steps_of(record).num_skipped for record, _ in timed),
        valid_px_per_s=valid.at(1 / valid.value) if valid else None,
        padded_px_per_s=padded.at(1 / padded.value) if padded else None,
        step_time=step,
        data_wait_ratio=sum(waits) / len(waits) if waits else None,
        power_w=weighted_power_w([(record, one.padded_time) for record, one in timed]),
        epoch_time=padded * padded_pixels if padded and padded_pixels else None,
    )
