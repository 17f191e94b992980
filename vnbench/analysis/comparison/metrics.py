"""Define the metrics of a comparison; a new metric needs its name in records.readings.Metric and an entry here."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from vnbench.analysis.trials.process import SUPPLYING, why_not_timed
from vnbench.analysis.trials.steps import steps_of
from vnbench.records.readings import BatchingAccount, Metric
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.records.values.once import once_per_object


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """The definition of a metric. Larger figures are worse."""

    unit: str
    """Unit of its figures."""
    read: Callable[[TrialRecord], float | None]
    """Reads the figure of a trial that ended ``ok``; returns None if it has no figure."""
    digits: int | None = None
    """Significant digits in a baseline file; None keeps a whole number unchanged."""
    tolerance: Literal["time", "memory", "padding"] | None = None
    """Name of its tolerance; None for a count, which has no tolerance."""


@once_per_object
def _time_s(record: TrialRecord) -> float | None:
    """Return one figure for the time of a process, comparable only with the same spec; None without valid times.

    Training: seconds per megapixel of valid pixels. Compute: seconds of the mean step, as geometric mean over the
    canvases, so that costs per step show as well as costs per pixel. Loader: seconds per megapixel of valid pixels, at
    the last stage that training waits for.
    """
    if record.kind in ("memory", "forecast", "audit", "snapshot") or why_not_timed(record) is not None:
        return None
    if record.kind == "loader":
        warm = {stage.name: stage for stage in record.stages if not stage.is_cold}
        stage = next((warm[name] for name in SUPPLYING if name in warm), None)
        return None if stage is None else 1e6 * math.fsum(stage.waits_s) / stage.valid_pixels
    steps = steps_of(record).counted
    if is_of_kind(record, TrainingSpec):
        return 1e6 * steps.total("step_time_s") / steps.total("valid_pixels")
    means = [found.total("step_time_s") / len(found) for found in steps.by_canvas.values()]
    return math.exp(statistics.fmean(map(math.log, means)))


def _padding(record: TrialRecord) -> float | None:
    """Return the padded pixels per valid pixel of a training trial's measured steps, which repeat one plan."""
    if record.kind != "training" or record.steps is None:
        return None
    steps = steps_of(record).counted
    return steps.total("padded_pixels") / steps.total("valid_pixels")


def _plan(record: TrialRecord) -> BatchingAccount | None:
    """Return the account of a plan; None of an observed run, each epoch of which is another draw."""
    return None if record.kind == "observed" else record.batching


def _epoch_padding(record: TrialRecord) -> float | None:
    """Return the padded pixels per valid pixel of the plan of all training examples."""
    plan = _plan(record)
    return None if plan is None else plan.padded_pixels / plan.valid_pixels


def _peak_bytes(record: TrialRecord, name: str) -> float | None:
    """Return the largest peak of a trial, over its step and the canvases of a compute trial; None if unknown."""
    peaks = [getattr(canvas, name) for canvas in record.canvases]
    if record.memory is not None and record.memory.instrument != "process":
        peaks.append(getattr(record.memory, name))
    if record.card is not None:
        peaks.append(getattr(record.card.worst_case, name.removeprefix("peak_")).high)
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known else None


def _of_forecast(record: TrialRecord, name: str) -> float | None:
    """Return a count of the worst-case step of a forecast."""
    return None if record.card is None else float(getattr(record.card.worst_case, name))


def _num_operators(record: TrialRecord) -> float | None:
    return _of_forecast(record, "num_kernels") if record.memory is None else record.memory.num_operators


COMPARED: Mapping[Metric, Compared] = {
    "time": Compared(unit="s", read=_time_s, digits=4, tolerance="time"),
    "memory": Compared(
        unit="bytes", read=lambda record: _peak_bytes(record, "peak_allocated_bytes"), tolerance="memory"
    ),
    "reserved": Compared(
        unit="bytes", read=lambda record: _peak_bytes(record, "peak_reserved_bytes"), tolerance="memory"
    ),
    "padding": Compared(unit="padded px per valid px", read=_padding, digits=6, tolerance="padding"),
    "epoch_padding": Compared(unit="padded px per valid px", read=_epoch_padding, digits=6, tolerance="padding"),
    "shapes": Compared(unit="canvases", read=lambda record: plan.distinct_shapes if (plan := _plan(record)) else None),
    "operators": Compared(unit="operators", read=_num_operators),
    "moved": Compared(unit="bytes", read=lambda record: _of_forecast(record, "moved_bytes")),
    "flop": Compared(unit="FLOP", read=lambda record: _of_forecast(record, "flop")),
}
"""Every metric except the status, which is not a number."""
