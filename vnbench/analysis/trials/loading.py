"""Summarise loader trials, per spec and stage: supply, waits, bytes, memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from vnbench.analysis.statistics.process_spread import PooledFigure, Spread, pooled
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.analysis.trials.noisy import StoppedFigure, capped_stop, settled_warnings
from vnbench.analysis.trials.process import SUPPLYING, Stage, stage_figures, why_not_timed
from vnbench.analysis.trials.summary import by_spec, distinct_warnings, latest_attempts
from vnbench.records.readings import BatchingAccount, LoaderStage, LoaderStageName
from vnbench.records.record import Status, TrialRecord, TrialWarning, of_kind
from vnbench.records.spec.trial_spec import LoaderSpec

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSummary:
    """One stage over the processes of a loader spec."""

    name: LoaderStageName
    """The last stage that is included."""
    is_cold: bool
    """Whether the files were read from disk."""
    time_per_example: PooledFigure
    """Seconds per example, with its interval; rates have the same relative interval."""
    valid_pixels_per_example: float
    """Mean valid pixels of an example."""
    waits_s: tuple[float, ...]
    """PERCENTILES of the seconds of waiting for a batch."""
    num_batches: int
    """Measured batches of all processes."""
    payload_bytes_per_example: float
    """Bytes per example that came from worker processes."""
    start_up_s: float | None
    """Mean seconds from the start of the workers to the first batch; None without workers."""
    host_bytes: int | None
    """Largest memory of a process and its workers; None if unknown."""

    @property
    def examples_per_s(self) -> float:
        """Examples per second."""
        return 1 / self.time_per_example.value

    @property
    def valid_px_per_s(self) -> float:
        """Valid pixels per second."""
        return self.valid_pixels_per_example / self.time_per_example.value


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSummary:
    """One loader spec over its processes."""

    spec: LoaderSpec
    """The spec."""
    status: Status
    """``ok`` if any process ended ``ok``, else the status of the first process."""
    cause: str | None
    """Why there are no figures, in one line; None if there are."""
    warnings: tuple[TrialWarning, ...]
    """Warnings of all processes, without repeats."""
    num_processes: int
    """Number of processes with valid times."""
    failures: tuple[str, ...]
    """How each other process ended, such as ``oom: CUDA out of memory``."""
    stages: tuple[StageSummary, ...]
    """Summary of each stage, in the order measured; empty without valid times."""
    batching: BatchingAccount | None
    """Padding account of the plan of all training examples."""

    def stage(self, name: LoaderStageName, *, is_cold: bool = False) -> StageSummary | None:
        """Return a stage; None if it was not measured."""
        return next((one for one in self.stages if (one.name, one.is_cold) == (name, is_cold)), None)

    @property
    def supply(self) -> StageSummary | None:
        """The last measured stage of SUPPLYING, which delivers batches that training can use; None without one."""
        return next((stage for name in SUPPLYING if (stage := self.stage(name)) is not None), None)


def summarize_loading(records: Iterable[TrialRecord], *, noise: Noise | None = None) -> tuple[LoaderSummary, ...]:
    """Return one summary per loader spec, in the order of first appearance.

    Pass the ``noise`` of the records if it is already known.
    """
    latest = latest_attempts(records)
    specs = by_spec(latest, LoaderSpec)
    if not specs:
        return ()
    # The noise of all kinds takes a second for a thousand records, so compute it only if no loader spec was repeated.
    own = measure_noise(of_kind(latest, LoaderSpec)).spread_for("loader")
    spread = own if own is not None else (noise or measure_noise(latest)).spread_for("loader")
    return tuple(_summarize(processes, spread) for processes in specs)


def _summarize(processes: Sequence[TrialRecord[LoaderSpec]], spread: Spread | None) -> LoaderSummary:
    reasons = [(record.status, reason) for record in processes if (reason := why_not_timed(record)) is not None]
    timed = [record for record in processes if stage_figures(record)]
    seen = dict.fromkeys(stage for record in timed for stage in stage_figures(record))
    stages = tuple(_stage(stage, timed, spread) for stage in seen)
    stopped = [
        StoppedFigure(stop=stop, relative_half_width=one.time_per_example.relative_half_width)
        for one in stages
        if one.name in SUPPLYING and not one.is_cold
        if (stop := capped_stop([reading.stop for reading in _readings(timed, (one.name, False))])) is not None
    ]
    return LoaderSummary(
        spec=processes[0].spec,
        status="ok" if any(record.status == "ok" for record in processes) else processes[0].status,
        cause=None if timed else reasons[0][1],
        warnings=settled_warnings(processes[0].spec, distinct_warnings(processes), stopped, part="stage"),
        num_processes=len(timed),
        failures=tuple(f"{status}: {reason}" for status, reason in reasons),
        stages=stages,
        batching=next((record.batching for record in processes if record.batching), None),
    )


def _stage(stage: Stage, timed: Sequence[TrialRecord], spread: Spread | None) -> StageSummary:
    figures = [found[stage] for record in timed if stage in (found := stage_figures(record))]
    readings = _readings(timed, stage)
    num_examples = sum(reading.num_examples for reading in readings)
    start_ups = [reading.start_up_s for reading in readings if reading.start_up_s is not None]
    padded_per_example = sum(reading.padded_pixels for reading in readings) / num_examples
    per_pixel = pooled(figures, spread=spread)
    name, is_cold = stage
    return StageSummary(
        name=name,
        is_cold=is_cold,
        time_per_example=per_pixel * padded_per_example,
        valid_pixels_per_example=sum(reading.valid_pixels for reading in readings) / num_examples,
        waits_s=tuple(np.percentile([wait for reading in readings for wait in reading.waits_s], PERCENTILES).tolist()),
        num_batches=sum(len(reading.waits_s) for reading in readings),
        payload_bytes_per_example=sum(reading.payload_bytes for reading in readings) / num_examples,
        start_up_s=fmean(start_ups) if start_ups else None,
        host_bytes=max((reading.host_bytes for reading in readings if reading.host_bytes is not None), default=None),
    )


def _readings(timed: Sequence[TrialRecord], stage: Stage) -> list[LoaderStage]:
    return [reading for record in timed for reading in record.stages if _key(reading) == stage]


def _key(reading: LoaderStage) -> Stage:
    return reading.name, reading.is_cold
