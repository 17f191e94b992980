"""Summarise compute trials, per spec and canvas: step time and its phases, throughput, first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from vnbench.analysis.statistics.process_spread import PooledFigure, Spread, pooled
from vnbench.analysis.trials.loop_costs import LoopCost, loop_cost
from vnbench.analysis.trials.memory_law import PeakPoint
from vnbench.analysis.trials.noise import Noise, measure_noise, process_figure
from vnbench.analysis.trials.noisy import StoppedFigure, capped_stop, settled_warnings
from vnbench.analysis.trials.process import StepFigures, compute_figures, weighted_power_w, why_not_timed
from vnbench.analysis.trials.steps import Canvas
from vnbench.analysis.trials.summary import by_spec, distinct_warnings, latest_attempts
from vnbench.records.readings import CanvasReading, StopRule
from vnbench.records.record import Status, TrialRecord, TrialWarning
from vnbench.records.spec.trial_spec import ComputeSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CanvasSummary:
    """The steps on one canvas over the processes of one compute spec. Values that were not measured are None."""

    height: int
    """Height of the canvas in pixels."""
    width: int
    """Width of the canvas in pixels."""
    num_examples: float
    """Examples per step."""
    valid_pixels: float
    """Valid pixels per step."""
    padded_pixels: float
    """Padded pixels per step."""
    step_time: PooledFigure
    """Mean seconds per step, with its interval; throughputs have the same relative interval."""
    figures: tuple[StepFigures, ...]
    """Figures of the steps of each process on this canvas."""
    num_steps: int
    """Measured steps of all processes."""
    first_seen_s: float | None
    """Seconds of the first step on this canvas, mean over the processes."""
    peak_allocated_bytes: int | None
    """Largest peak of bytes held by tensors."""
    peak_reserved_bytes: int | None
    """Largest peak of the caching allocator (CUDA)."""
    host_growth_bytes: int | None
    """Largest growth of a process's resident set over the steps on this canvas."""
    flop_per_step: int | None
    """Floating-point operations of one step, without recomputation."""
    stop_rules: tuple[StopRule, ...]
    """The rules that ended measuring, without repeats."""
    over_own_loop: LoopCost | None = None
    """What a framework's loop adds; None for the own loop."""

    @property
    def phases_s(self) -> Mapping[str, float]:
        """Mean seconds per step of ``forward``, ``backward`` and ``optimizer``, as far as known."""
        known = [one.phases_s for one in self.figures]
        return {name: fmean(phases[name] for phases in known if name in phases) for name in known[0]} if known else {}

    @property
    def valid_px_per_s(self) -> float:
        """Valid pixels per second."""
        return self.valid_pixels / self.step_time.value

    @property
    def padded_px_per_s(self) -> float:
        """Padded pixels per second."""
        return self.padded_pixels / self.step_time.value

    @property
    def examples_per_s(self) -> float:
        """Examples per second."""
        return self.num_examples / self.step_time.value

    @property
    def flop_per_s(self) -> float | None:
        """Floating-point operations of the model per second, without recomputation."""
        return None if self.flop_per_step is None else self.flop_per_step / self.step_time.value

    @property
    def first_seen_ratio(self) -> float | None:
        """Time of the first step on this canvas over the mean of the measured steps."""
        return None if self.first_seen_s is None else self.first_seen_s / self.step_time.value


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeSummary:
    """One compute spec over its processes."""

    spec: ComputeSpec
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
    canvases: tuple[CanvasSummary, ...]
    """Summary of each canvas, in the order measured; empty without valid times."""
    spread: Spread | None
    """Run-to-run spread in the intervals; None if no spec ran in two processes."""
    power_w: float | None
    """Mean power of the device during measuring, over all canvases, in watts."""

    @property
    def loop_costs(self) -> tuple[LoopCost, ...]:
        """What a framework's loop adds, by canvas; empty for the own loop."""
        return tuple(canvas.over_own_loop for canvas in self.canvases if canvas.over_own_loop is not None)

    @property
    def peaks(self) -> tuple[PeakPoint, ...]:
        """Peak bytes held by tensors in a step, by canvas."""
        return tuple(
            PeakPoint(padded_pixels=round(canvas.padded_pixels), peak_bytes=canvas.peak_allocated_bytes)
            for canvas in self.canvases
            if canvas.peak_allocated_bytes is not None
        )


def summarize_compute(records: Iterable[TrialRecord], *, noise: Noise | None = None) -> tuple[ComputeSummary, ...]:
    """Return one summary per compute spec, in the order of first appearance.

    Pass the ``noise`` of the records if it is already known.
    """
    latest = latest_attempts(records)
    spread = (noise or measure_noise(latest)).spread_for("compute")
    return tuple(_summarize(processes, spread) for processes in by_spec(latest, ComputeSpec))


def _summarize(processes: Sequence[TrialRecord[ComputeSpec]], spread: Spread | None) -> ComputeSummary:
    reasons = [(record.status, reason) for record in processes if (reason := why_not_timed(record)) is not None]
    timed = [(record, figures) for record in processes if (figures := compute_figures(record))]
    seen = dict.fromkeys(canvas for _, figures in timed for canvas in figures)
    readings, of_timed = _readings(processes), _readings(record for record, _ in timed)
    canvases = [one for canvas in seen if (one := _canvas(canvas, timed, of_timed.get(canvas, ()), spread)) is not None]
    stopped = [
        StoppedFigure(stop=stop, relative_half_width=one.step_time.relative_half_width)
        for one in canvases
        # A limit, if any process reached one.
        if (stop := capped_stop([reading.stop for reading in readings.get((one.height, one.width), ())])) is not None
    ]
    status: Status = "ok" if any(record.status == "ok" for record in processes) else processes[0].status
    return ComputeSummary(
        spec=processes[0].spec,
        status=status,
        cause=None if timed else reasons[0][1],
        warnings=settled_warnings(processes[0].spec, distinct_warnings(processes), stopped, part="canvas"),
        num_processes=len(timed),
        failures=tuple(f"{status}: {reason}" for status, reason in reasons),
        canvases=tuple(canvases),
        spread=spread,
        power_w=weighted_power_w((record, process_figure(record)) for record, _ in timed),
    )


def _canvas(
    canvas: Canvas,
    timed: Sequence[tuple[TrialRecord, Mapping[Canvas, StepFigures]]],
    readings: Sequence[CanvasReading],
    spread: Spread | None,
) -> CanvasSummary | None:
    """Return the summary of one canvas; None if its pixels or times are unknown."""
    figures = [by_canvas[canvas] for _, by_canvas in timed if canvas in by_canvas]
    step_times = [one.step_time for one in figures if one.step_time is not None]
    first = figures[0]
    if first.padded_pixels is None or first.valid_pixels is None or first.num_examples is None or not step_times:
        return None
    growths = [reading.host_growth_bytes for reading in readings if reading.host_growth_bytes is not None]
    reserved = [reading.peak_reserved_bytes for reading in readings if reading.peak_reserved_bytes is not None]
    allocated = [reading.peak_allocated_bytes for reading in readings if reading.peak_allocated_bytes is not None]
    height, width = canvas
    return CanvasSummary(
        height=height,
        width=width,
        num_examples=first.num_examples,
        valid_pixels=first.valid_pixels,
        padded_pixels=first.padded_pixels,
        step_time=pooled(step_times, spread=spread),
        figures=tuple(figures),
        num_steps=sum(one.num_steps for one in figures),
        first_seen_s=fmean(reading.first_seen_s for reading in readings) if readings else None,
        peak_allocated_bytes=max(allocated, default=None),
        peak_reserved_bytes=max(reserved, default=None),
        host_growth_bytes=max(growths, default=None),
        flop_per_step=next((reading.flop_per_step for reading in readings), None),
        stop_rules=tuple(dict.fromkeys(reading.stop.rule for reading in readings)),
        over_own_loop=loop_cost(
            (pair for reading in readings for pair in reading.loop_pairs_s), padded_pixels=first.padded_pixels
        ),
    )


def _readings(records: Iterable[TrialRecord]) -> Mapping[Canvas, Sequence[CanvasReading]]:
    """Return the first reading of each canvas in each record, which holds its first step, by canvas."""
    found: dict[Canvas, list[CanvasReading]] = {}
    for record in records:
        first = {(reading.height, reading.width): reading for reading in reversed(record.canvases)}
        for canvas, reading in first.items():
            found.setdefault(canvas, []).append(reading)
    return found
