"""Soundness of a trial's observations: its status and its warnings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vnbench.analysis.trials.noisy import StoppedFigure, noise_warning
from vnbench.analysis.trials.process import SUPPLYING
from vnbench.records.readings import MemoryReading
from vnbench.records.record import Cause, TrialRecord, TrialWarning
from vnbench.records.spec.trial_spec import ObservedSpec, TrainingSpec, TrialSpec
from vnbench.units import count, format_percent

MIN_MEASURED_STEPS = 5
"""Fewer measured steps than this say little about their spread, so the record warns."""

MAX_DATA_WAIT = 0.1
"""Share of the steps' time that the training process may wait for its loader: an accelerator counts as fed at 90 %
utilisation (MLPerf Storage)."""


def checked_loss(record: TrialRecord, losses: Sequence[float], *, is_skipped: Sequence[bool]) -> TrialRecord:
    """Return the record, marked ``wrong`` if the loss of a step was not finite.

    Steps that the gradient scaler skipped may overflow; that is what the scaler is for.
    """
    bad = [i for i, loss in enumerate(losses) if not is_skipped[i] and not math.isfinite(loss)]
    if not bad:
        return record
    message = (
        f"the loss was not finite in step {bad[0]} (warm-up included), in {len(bad)} of {count(len(losses), 'step')} "
        "in all"
    )
    return replace(record, status="wrong", cause=Cause(kind="non-finite-loss", message=message))


def error_told(ratio: float | None) -> str:
    """Return a relative error in words; None means that it was not finite."""
    return "not finite" if ratio is None else f"{100 * ratio:.2g} %"


def warnings_of(record: TrialRecord) -> tuple[TrialWarning, ...]:
    """Return the warnings about a trial's figures from its own readings."""
    measured = _measured(record.steps or {})
    return (
        *worker_warnings(record.spec, num_cores=len(os.sched_getaffinity(0))),
        *(memory_warnings(record.memory) if record.memory else ()),
        *large_tensor_warnings(record),
        *_clock_warnings(measured),
        *_scaler_warnings(measured),
        *(tuple(_number_warnings(record, measured)) or _noise_warnings(record)),
        *_outlier_warnings(measured),
        *_data_wait_warnings(record, measured),
    )


def loader_warnings(record: TrialRecord) -> tuple[TrialWarning, ...]:
    """Return the warnings about a loader trial's figures from its own readings."""
    return (*worker_warnings(record.spec, num_cores=len(os.sched_getaffinity(0))), *_noise_warnings(record))


def worker_warnings(spec: TrialSpec, *, num_cores: int) -> Iterator[TrialWarning]:
    """Yield a warning if loader workers have to share cores."""
    if spec.num_workers is not None and spec.num_workers > num_cores:
        message = (
            f"{count(spec.num_workers, 'loader worker')} on {count(num_cores, 'core')}: they take turns and use "
            f"memory for nothing; try --num-workers {num_cores} or fewer"
        )
        figures = {"num_workers": float(spec.num_workers), "num_cores": float(num_cores)}
        yield TrialWarning(code="many-workers", message=message, figures=figures)


def memory_warnings(memory: MemoryReading) -> Iterator[TrialWarning]:
    """Yield a warning if a memory reading makes the trial's times invalid."""
    if memory.num_alloc_retries:
        message = (
            f"the allocator ran full {count(memory.num_alloc_retries, 'time')} and flushed its cache: times are not "
            "valid; try a smaller micro-batch or --allocator expandable-segments"
        )
        yield TrialWarning(code="alloc-retries", message=message, figures={"num_retries": memory.num_alloc_retries})


def large_tensor_warnings(record: TrialRecord) -> Iterator[TrialWarning]:
    """Yield a warning if a pass has tensors of at least 2^31 elements and was not compared with smaller passes."""
    reading = record.large_tensors
    if reading is not None and reading.is_equal is None:
        message = (
            f"a tensor of {reading.num_elements / 1e9:.2f} billion elements (kernels have returned zeros beyond "
            f"2^31), and {count(reading.num_examples, 'example')} not compared with smaller passes, because they do "
            "not fit into memory or affect each other: try a smaller micro-batch"
        )
        figures = {"num_elements": reading.num_elements, "num_examples": reading.num_examples}
        yield TrialWarning(code="large-tensor-unchecked", message=message, figures=figures)


def _measured(steps: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    is_warm_up = steps.get("is_warm_up", ())
    return {
        name: [value for value, warm_up in zip(column, is_warm_up, strict=True) if not warm_up]
        for name, column in steps.items()
    }


def _clock_warnings(measured: Mapping[str, Sequence[Any]]) -> Iterator[TrialWarning]:
    num_unknown = sum(value is None for value in measured.get("step_time_s", ()))
    if num_unknown:
        message = (
            f"the clock stepped backwards in {num_unknown} of {count(len(measured['step_time_s']), 'measured step')}: "
            "the trial has no valid times; repair the machine's clock source and use --retry ok"
        )
        yield TrialWarning(code="clock-stepped", message=message, figures={"num_steps": num_unknown})


def _scaler_warnings(measured: Mapping[str, Sequence[Any]]) -> Iterator[TrialWarning]:
    is_skipped = measured.get("is_skipped_by_scaler", ())
    if any(is_skipped):
        message = (
            f"the gradient scaler skipped {sum(is_skipped)} of {count(len(is_skipped), 'measured step')}, "
            "whose times do not count: try more --warm-up-steps or bf16"
        )
        yield TrialWarning(code="scaler-skipped-steps", message=message, figures={"num_steps": sum(is_skipped)})


def _number_warnings(record: TrialRecord, measured: Mapping[str, Sequence[Any]]) -> Iterator[TrialWarning]:
    num_steps = len(measured.get("step_time_s", ()))
    is_swept = isinstance(record.spec, TrainingSpec) and not isinstance(record.spec, ObservedSpec)
    if isinstance(record.spec, TrainingSpec) and is_swept and num_steps < MIN_MEASURED_STEPS:
        epochs = (record.spec.max_epochs or 1) * math.ceil(MIN_MEASURED_STEPS / max(1, num_steps))
        message = f"only {count(num_steps, 'step')} measured: the interval is wide; try --max-epochs {epochs}"
        yield TrialWarning(code="few-steps", message=message, figures={"num_steps": num_steps})


def _noise_warnings(record: TrialRecord) -> Iterator[TrialWarning]:
    """Yield a warning if a limit ended measuring long before the target was reached."""
    parts = record.canvases or [one for one in record.stages if one.name in SUPPLYING and not one.is_cold]
    stops = [record.stop] if record.stop else [part.stop for part in parts]
    figures = [StoppedFigure(stop=stop, relative_half_width=stop.relative_half_width) for stop in stops]
    part = None if record.stop else "canvas" if record.canvases else "stage"
    warning = noise_warning(record.spec, figures, part=part)
    if warning is not None:
        yield warning


def _outlier_warnings(measured: Mapping[str, Sequence[Any]]) -> Iterator[TrialWarning]:
    flags = measured.get("is_outlier", ())
    if not any(flags):
        return
    times = [value or 0.0 for value in measured["step_time_s"]]
    share = sum(seconds for seconds, flag in zip(times, flags, strict=True) if flag) / (sum(times) or 1.0)
    verb, what = ("is", "an outlier") if sum(flags) == 1 else ("are", "outliers")
    message = (
        f"{sum(flags)} of {count(len(flags), 'measured step')} {verb} {what}, with {format_percent(share)} of "
        f"the time, and {verb} kept: see is_outlier in the record, and vnbench env for disturbances of this machine"
    )
    yield TrialWarning(code="outliers", message=message, figures={"num_steps": sum(flags), "share_of_time": share})


def _data_wait_warnings(record: TrialRecord, measured: Mapping[str, Sequence[Any]]) -> Iterator[TrialWarning]:
    waits, times = measured.get("data_wait_s", ()), measured.get("step_time_s", ())
    if record.kind != "training" or None in waits or None in times or not sum(times) > 0:
        return
    share = sum(waits) / sum(times)
    if share > MAX_DATA_WAIT:
        message = (
            f"the training process waited for its loader in {format_percent(share)} of the time: "
            f"try --num-workers {(record.spec.num_workers or 0) + 1}, or files that decode faster"
        )
        yield TrialWarning(code="data-wait", message=message, figures={"share_of_time": share})
