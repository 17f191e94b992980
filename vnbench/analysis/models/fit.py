"""Fit the step-time model of every family to its compute trials, or to its training trials if it has no others."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.models.forecast_fit import ForecastFit, central_points, fit_forecast, forecast_records
from vnbench.analysis.models.step_fit import StepFit, fit_roughly, fit_steps
from vnbench.analysis.models.step_model import StepPoint, sizes_of
from vnbench.analysis.trials.memory_law import MemoryLaw, PeakPoint, fit_memory_law
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.analysis.trials.process import compute_figures, why_not_timed
from vnbench.analysis.trials.steps import steps_of
from vnbench.analysis.trials.summary import latest_attempts, peak_bytes
from vnbench.batching.alignment import align
from vnbench.records.record import TrialRecord, is_of_kind, of_kind
from vnbench.records.spec.trial_spec import ComputeSpec, MemorySpec, ObservedSpec, TrainingSpec, TrialSpec
from vnbench.units import count

Source = Literal["compute", "training", "forecast"]

MIN_FIT_SIZES = 3
"""Fewest different sizes for a fit: a line through two points does not show its own error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewShape:
    """Extra seconds of a step whose shape is new to its process: on CPUs, kernels are prepared for each shape."""

    constant_s: float
    """Seconds on any canvas."""
    s_per_pixel: float
    """Seconds for each pixel of the canvas, whatever the number of examples."""

    def total_s(self, canvas_pixels_K: NDArray[np.float64]) -> float:
        """Return the extra seconds of new shapes with canvases of so many pixels."""
        return float(np.maximum(0.0, self.constant_s + self.s_per_pixel * canvas_pixels_K).sum())

    def plus(self, other: NewShape, *, weight: float) -> NewShape:
        """Return the sum with another one that has a weight."""
        return NewShape(
            constant_s=self.constant_s + weight * other.constant_s,
            s_per_pixel=self.s_per_pixel + weight * other.s_per_pixel,
        )


NO_EXTRA = NewShape(constant_s=0.0, s_per_pixel=0.0)
"""A new shape takes no longer than one that was seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyFit:
    """The models of one family, the trials that share memory behaviour."""

    spec: TrialSpec
    """The first spec of the family that was measured."""
    source: Source
    """The kind of trial that it was fitted to."""
    points: tuple[StepPoint, ...]
    """The points that it was fitted to."""
    fit: StepFit
    """Step time by padded pixels."""
    step_count: StepFit
    """Constant step time: the model that only counts steps."""
    memory: MemoryLaw | None
    """Peak memory by padded pixels; None if fewer than two sizes were measured."""
    optimizer_s: float | None
    """Seconds of a step to zero gradients and update parameters; None if unknown."""
    is_rough: bool
    """Whether it has too few sizes to estimate its errors, which are then assumed."""
    forward_ratio: float | None
    """Share of the forward pass in a step; None if unknown."""
    flop_per_s: tuple[tuple[float, float], ...]
    """Pairs of padded pixels and floating-point operations per second; empty if unknown."""
    first_seen_s: float | None
    """Mean extra seconds of the first step on a canvas; None if unknown."""
    new_shape: NewShape = NO_EXTRA
    """Extra seconds of the first step on a canvas by its size."""
    forecast: ForecastFit | None = None
    """The bracket of a family that was forecast; None if it was measured."""

    @property
    def family(self) -> str:
        """The name of the family."""
        return self.spec.family

    @property
    def new_shape_of_training(self) -> NewShape:
        """Extra seconds of training when it meets a new shape.

        There are none on CUDA and for compiled code, where training visits its shapes before it is measured.
        """
        return NO_EXTRA if self.spec.visits_shapes else self.new_shape

    def saved_s(self, *, num_passes: int, num_steps: int) -> float:
        """Return the seconds saved by accumulation: it updates once per step, a compute trial once per pass."""
        return (num_passes - num_steps) * (self.optimizer_s or 0.0)


def fit_families(
    records: Iterable[TrialRecord], *, noise: Noise | None = None, is_rough_allowed: bool = False
) -> tuple[tuple[FamilyFit, ...], dict[str, str]]:
    """Return the fits, and for each other timed family the reason why it has no fit.

    Pass the ``noise`` of the records if it is already known. With ``is_rough_allowed``, a family with one or two sizes
    gets a rough fit (step_fit.fit_roughly).

    Training steps of several passes are left out, because the canvas of each pass is unknown. The wait for data is
    subtracted from training steps.
    """
    latest = latest_attempts(records)
    noise = noise or measure_noise(latest)
    families: dict[str, list[TrialRecord]] = {}
    for record in latest:
        # Trials with another shape_visits than the default are a separate experiment.
        if isinstance(record.spec, ComputeSpec | TrainingSpec) and record.spec.shape_visits == "auto":
            families.setdefault(record.spec.family, []).append(record)
    laws = _memory_laws(latest)
    found: list[FamilyFit] = []
    left_out: dict[str, str] = {}
    for family, members in families.items():
        if isinstance(members[0].spec, ObservedSpec) and members[0].spec.ranks > 1:
            left_out[family] = f"it trained on {members[0].spec.ranks} ranks, and a fit is of one"
            continue
        source: Source = "compute" if any(map(_points, of_kind(members, ComputeSpec))) else "training"
        kind = ComputeSpec if source == "compute" else TrainingSpec
        chosen: list[TrialRecord] = [*of_kind(members, kind)]
        points = [point for number, record in enumerate(chosen) for point in _points(record, process=number)]
        sizes = sizes_of(points)
        is_rough = len(sizes) < MIN_FIT_SIZES
        if is_rough and not (is_rough_allowed and sizes):
            left_out[family] = _why_not(members, len(sizes))
            continue
        spread = noise.spread_for(chosen[0].kind)
        spec = chosen[0].spec
        first_seen = _first_seen(chosen)
        found.append(
            FamilyFit(
                spec=spec,
                source=source,
                points=tuple(points),
                fit=fit_roughly(points, spread=spread) if is_rough else fit_steps(points, spread=spread),
                step_count=fit_steps(points, spread=spread, form="constant"),
                memory=_memory_law(chosen) or laws.get(spec.lever_key),
                optimizer_s=_mean_phase(chosen, "optimizer_s"),
                is_rough=is_rough,
                forward_ratio=_forward_ratio(chosen),
                flop_per_s=_flop_rates(chosen),
                first_seen_s=statistics.fmean(every) if (every := [s for one in first_seen for _, s in one]) else None,
                new_shape=_new_shape(first_seen),
            )
        )
    return tuple(found), left_out


def forecast_families(records: Iterable[TrialRecord]) -> tuple[FamilyFit, ...]:
    """Return the families that were forecast for a card, the central values of each fitted as if they were measured."""
    found = []
    for record in forecast_records(latest_attempts(records)):
        points = central_points(record)
        fit, bracket = fit_forecast(record)
        found.append(
            FamilyFit(
                spec=record.spec,
                source="forecast",
                points=tuple(points),
                fit=fit,
                step_count=fit_steps(points, spread=None, form="constant"),
                memory=None,
                optimizer_s=None,
                is_rough=False,
                forward_ratio=None,
                flop_per_s=(),
                first_seen_s=None,
                forecast=bracket,
            )
        )
    return tuple(found)


def why_unfitted(left_out: Mapping[str, str]) -> tuple[str, ...]:
    """Return each reason why families have no fit, with how many it holds for, the most common first."""
    return tuple(
        f"{count(number, 'configuration')}: {reason}" for reason, number in Counter(left_out.values()).most_common()
    )


def _why_not(members: Sequence[TrialRecord], num_sizes: int) -> str:
    reasons = [reason for record in members if (reason := why_not_timed(record)) is not None]
    if num_sizes == 0 and reasons:
        return reasons[0]
    if all(record.spec.accumulation_steps > 1 for record in members):
        return "its steps have several passes; measure with --kind compute"
    return f"{count(num_sizes, 'size')} timed, {MIN_FIT_SIZES} are needed; measure with --kind compute"


def _points(record: TrialRecord, *, process: int = 0) -> list[StepPoint]:
    """Return the mean step time for each size of a record; empty if its times are not valid."""
    if record.kind == "compute":
        by_size: dict[float, list[float]] = {}
        for figures in compute_figures(record).values():
            if figures.step_time is not None and figures.padded_pixels is not None:
                by_size.setdefault(figures.padded_pixels, []).append(figures.step_time.value)
    else:
        by_size = _training_times(record)
    return [
        StepPoint(padded_pixels=size, step_time_s=statistics.fmean(times), process=process)
        for size, times in by_size.items()
    ]


def _training_times(record: TrialRecord) -> dict[float, list[float]]:
    """Return the seconds of the full steps of each size, without the wait for data.

    Of steps of several passes an observed run tells the mean pass, with a whole update.
    """
    num_passes = record.spec.accumulation_steps
    if (num_passes > 1 and not is_of_kind(record, ObservedSpec)) or why_not_timed(record) is not None:
        return {}
    steps = steps_of(record).counted
    # The short last step of an epoch belongs to another family. A missing wait is nan, so its step is left out.
    is_full_S = steps["num_examples"] == record.spec.batch_size
    chosen = steps.where(is_full_S & (steps["step_time_s"] > steps["data_wait_s"]))
    by_size: dict[float, list[float]] = {}
    for pixels, *times_s in chosen.rows("padded_pixels", "step_time_s", "data_wait_s", "optimizer_s"):
        seconds, wait_s, update_s = times_s
        computed_s = seconds - wait_s
        if num_passes > 1:
            computed_s = (computed_s - update_s) / num_passes + update_s
        by_size.setdefault(float(pixels) / num_passes, []).append(computed_s)
    return by_size


def _memory_law(records: Sequence[TrialRecord]) -> MemoryLaw | None:
    """Return the memory law from the peaks on the canvases of compute trials; None below two sizes."""
    peaks = {
        (canvas.height, canvas.width): PeakPoint(
            padded_pixels=record.spec.batch_size * canvas.height * canvas.width, peak_bytes=canvas.peak_allocated_bytes
        )
        for record in records
        for canvas in record.canvases
        if canvas.peak_allocated_bytes is not None
    }
    return fit_memory_law(list(peaks.values()))


def _memory_laws(latest: Sequence[TrialRecord]) -> Mapping[str, MemoryLaw]:
    """Return the memory law of each lever key, from worst-case peaks over its micro-batches and canvases."""
    points: dict[str, list[PeakPoint]] = {}
    for record in of_kind(latest, MemorySpec):
        spec, peak = record.spec, peak_bytes(record.memory)
        if record.status == "ok" and peak is not None and spec.soak is None:
            pixels = spec.micro_batch_size * align(spec.worst_case_height) * align(spec.worst_case_width)
            points.setdefault(spec.lever_key, []).append(PeakPoint(padded_pixels=pixels, peak_bytes=peak))
    laws = {key: fit_memory_law(found) for key, found in points.items()}
    return {key: law for key, law in laws.items() if law is not None}


def _mean_phase(records: Sequence[TrialRecord], name: str) -> float | None:
    (values,) = _measured(records, name)
    return statistics.fmean(values) if values else None


def _forward_ratio(records: Sequence[TrialRecord]) -> float | None:
    forward_s, step_s = map(math.fsum, _measured(records, "forward_s", "step_time_s"))
    return forward_s / step_s if step_s > 0 else None


def _measured(records: Sequence[TrialRecord], *names: str) -> list[list[float]]:
    """Return columns of the measured steps of all records, without steps that lack one of the values."""
    measured = [steps_of(record).measured for record in records]
    columns = np.stack([np.concatenate([steps[name] for steps in measured]) for name in names])
    known: list[list[float]] = columns[:, ~np.isnan(columns).any(axis=0)].tolist()
    return known


def _flop_rates(records: Sequence[TrialRecord]) -> tuple[tuple[float, float], ...]:
    rates: dict[float, list[float]] = {}
    for record in records:
        figures = compute_figures(record)
        for canvas in record.canvases:
            one = figures.get((canvas.height, canvas.width))
            if one is not None and one.step_time is not None and one.padded_pixels and canvas.flop_per_step:
                rates.setdefault(one.padded_pixels, []).append(canvas.flop_per_step / one.step_time.value)
    return tuple((pixels, statistics.fmean(values)) for pixels, values in sorted(rates.items()))


def _first_seen(records: Sequence[TrialRecord]) -> list[list[tuple[int, float]]]:
    """Return pixels and extra seconds of the canvases of each process, in the order in which it met them."""
    beyond = []
    for record in records:
        figures = compute_figures(record)
        known = ((canvas, figures.get((canvas.height, canvas.width))) for canvas in record.canvases)
        beyond.append(
            [
                (canvas.height * canvas.width, max(0.0, canvas.first_seen_s - one.step_time.value))
                for canvas, one in known
                if one is not None and one.step_time is not None and math.isfinite(canvas.first_seen_s)
            ]
        )
    return beyond


def _new_shape(beyond: Sequence[Sequence[tuple[int, float]]]) -> NewShape:
    """Return the line through the extra seconds by least squares, neither of its coefficients negative.

    The first canvas of a process is left out where there are others: its first step also starts the process's threads
    and takes its memory, which training does before it is measured. Without three sizes there is no line, but a mean.
    """
    points = [point for canvases in beyond for point in canvases[1:] or canvases]
    if not points:
        return NO_EXTRA
    pixels_K, seconds_K = np.array(points, dtype=np.float64).T
    mean = NewShape(constant_s=float(seconds_K.mean()), s_per_pixel=0.0)
    if len(np.unique(pixels_K)) < MIN_FIT_SIZES:
        return mean
    slope, constant = np.polyfit(pixels_K, seconds_K, 1)
    if slope < 0:
        return mean
    if constant < 0:
        return NewShape(constant_s=0.0, s_per_pixel=float(pixels_K @ seconds_K / (pixels_K @ pixels_K)))
    return NewShape(constant_s=float(constant), s_per_pixel=float(slope))
