"""Compute the figures of one process from its raw record, such as times per pixel and step times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property

from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.statistics.means import correlated_ratio_of_sums
from vnbench.analysis.trials.steps import Canvas, Steps, steps_of
from vnbench.records.readings import Block, LoaderStage, LoaderStageName
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.records.values.once import once_per_object
from vnbench.units import count

SUPPLYING: tuple[LoaderStageName, ...] = ("pinned", "workers", "collate")
"""Stages that deliver a batch for training, the last stage first. Copy and conversion are work of the device."""

Stage = tuple[LoaderStageName, bool]
"""A stage of a loader trial, and whether its files were read from disk."""


class StepFigures:
    """Figures of counted steps of one process, each computed at first use; None if a value is missing."""

    def __init__(self, steps: Steps, *, block: Block | None = None) -> None:
        """Take the steps, and ``block``, the wall clock and pixels of exactly these steps, if known."""
        self._steps = steps
        self._block = block
        self.num_steps = len(steps)

    @cached_property
    def step_time(self) -> Estimate | None:
        """Mean seconds per step, with the relative error of the seconds per padded pixel.

        The canvases are fixed, so differences between them are not an uncertainty.
        """
        times_s = self._steps.known("step_time_s")
        mean_s = sum(times_s) / len(times_s) if times_s else 0.0
        return _with_error_of(self._time_per("padded_pixels", times_s), mean_s) if mean_s else None

    @cached_property
    def valid_time(self) -> Estimate | None:
        """Seconds per valid pixel."""
        ratio = self._time_per("valid_pixels", self._steps.known("step_time_s"))
        return (
            ratio if self._block is None else _with_error_of(ratio, self._block.wall_time_s / self._block.valid_pixels)
        )

    @cached_property
    def padded_time(self) -> Estimate | None:
        """Seconds per padded pixel."""
        ratio = self._time_per("padded_pixels", self._steps.known("step_time_s"))
        return (
            ratio if self._block is None else _with_error_of(ratio, self._block.wall_time_s / self._block.padded_pixels)
        )

    @cached_property
    def data_wait_ratio(self) -> float | None:
        """Share of the steps' time that the training process waited for its loader."""
        waits_s, times_s = self._steps.known("data_wait_s"), self._steps.known("step_time_s")
        return math.fsum(waits_s) / math.fsum(times_s) if waits_s and sum(times_s) > 0 else None

    @cached_property
    def phases_s(self) -> Mapping[str, float]:
        """Mean seconds per step of ``forward``, ``backward`` and ``optimizer``, as far as known."""
        found = {name: self._mean(f"{name}_s") for name in ("forward", "backward", "optimizer")}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    @cached_property
    def valid_pixels(self) -> float | None:
        """Mean valid pixels per step."""
        return self._mean("valid_pixels")

    @cached_property
    def padded_pixels(self) -> float | None:
        """Mean padded pixels per step."""
        return self._mean("padded_pixels")

    @cached_property
    def num_examples(self) -> float | None:
        """Mean examples per step."""
        return self._mean("num_examples")

    def _time_per(self, name: str, times_s: Sequence[float]) -> Estimate | None:
        """Return the seconds per unit of a column, from the times of the steps."""
        units = self._steps.known(name)
        if len(times_s) != len(units) or not sum(units) > 0:
            return None
        estimate = correlated_ratio_of_sums(times_s, units)
        return estimate if estimate.value > 0 else None

    def _mean(self, name: str) -> float | None:
        values = self._steps.known(name)
        return sum(values) / len(values) if values else None


@once_per_object
def why_not_timed(record: TrialRecord) -> str | None:
    """Return why the times of a trial are not valid, in one line; None if they are valid."""
    if record.status != "ok":
        return record.cause.message if record.cause else "no cause recorded"
    if record.memory and record.memory.num_alloc_retries:
        # A retry returns the cache to the driver in the middle of a step.
        return f"the allocator retried {count(record.memory.num_alloc_retries, 'time')}: its timing is not valid"
    if record.kind == "memory":
        return "a memory trial measures no times"
    if record.kind == "loader":
        return None if record.stages else "no measured stage in the record"
    if record.kind == "snapshot":
        return None if record.snapshot else "no snapshot in the record"
    steps = steps_of(record)
    if not len(steps.measured):
        return "no measured step in the record"
    if not steps.measured.known("step_time_s"):
        # Other steps may be too short without being negative.
        return "the clock stepped backwards: its timing is not valid"
    if not len(steps.counted):
        return "the gradient scaler skipped every measured step"
    return None


@once_per_object
def training_figures(record: TrialRecord) -> StepFigures | None:
    """Return the figures of the measured steps of a training trial; None if its times are not valid.

    If every step counts, times per pixel come from the wall clock of the block.
    """
    if not is_of_kind(record, TrainingSpec) or why_not_timed(record) is not None:
        return None
    steps = steps_of(record)
    block = record.block
    if len(steps.counted) < len(steps.measured) or block is None or min(block.wall_time_s, block.valid_pixels) <= 0:
        # The wall clock of the block includes steps that do not count, so use only the times of the steps.
        block = None
    return StepFigures(steps.counted, block=block)


@once_per_object
def compute_figures(record: TrialRecord) -> dict[Canvas, StepFigures]:
    """Return the figures of a compute trial's measured steps by canvas, in the order measured.

    Empty if its times are not valid. A canvas without a counted step is left out.
    """
    if record.kind != "compute" or why_not_timed(record) is not None:
        return {}
    found = {canvas: StepFigures(steps) for canvas, steps in steps_of(record).counted.by_canvas.items()}
    return {canvas: figures for canvas, figures in found.items() if figures.step_time is not None}


@once_per_object
def stage_figures(record: TrialRecord) -> dict[Stage, Estimate]:
    """Return the seconds per padded pixel of each stage of a loader trial, in the order measured.

    Empty if its times are not valid. A stage without a time is left out.
    """
    if record.kind != "loader" or why_not_timed(record) is not None:
        return {}
    return {
        (stage.name, stage.is_cold): _with_error_of_waits(stage)
        for stage in record.stages
        if stage.wall_time_s > 0 and stage.padded_pixels > 0
    }


def mean_power_w(record: TrialRecord) -> float | None:
    """Return the mean power of the device in the measured span, in watts; None if unknown."""
    device = (record.telemetry or {}).get("device") or {}
    mean = (device.get("power_w") or {}).get("mean")
    return None if mean is None else float(mean)


def weighted_power_w(timed: Iterable[tuple[TrialRecord, Estimate | None]]) -> float | None:
    """Return the mean power of processes in watts, weighted by the time that each took for the same work.

    Multiplied by the mean time, it gives the mean energy. None if no process has a power reading.
    """
    known = [
        (power_w, figure.value) for record, figure in timed if figure and (power_w := mean_power_w(record)) is not None
    ]
    total_s = sum(time_s for _, time_s in known)
    return sum(power_w * time_s for power_w, time_s in known) / total_s if known else None


def started_s(record: TrialRecord) -> float:
    """Return the start of the process in seconds since 1970; records hold whole seconds."""
    started = datetime.fromisoformat(record.started_at)
    return (started if started.tzinfo else started.replace(tzinfo=UTC)).timestamp()


def measured_at_s(record: TrialRecord) -> float:
    """Return the middle of the measured span (of the whole process if unknown), in seconds since 1970."""
    start_s, end_s = record.measured_span_s or (0.0, record.elapsed_s)
    return started_s(record) + (start_s + end_s) / 2


def _with_error_of_waits(stage: LoaderStage) -> Estimate:
    value = stage.wall_time_s / stage.padded_pixels
    half_width, count = stage.stop.relative_half_width, stage.stop.num_observations
    if half_width is None or count is None or count < 2:
        return Estimate(value=value)
    return Estimate(value=value, se=value * half_width / student_t(count - 1), dof=count - 1)


def _with_error_of(steps: Estimate | None, value: float) -> Estimate:
    """Return a figure with the relative error of ``steps``; without an error if that is None."""
    return Estimate(value=value) if steps is None else steps.at(value)
