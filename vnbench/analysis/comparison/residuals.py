"""What was measured of a configuration that was forecast too, beside its bracket."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vnbench.analysis.trials.process import compute_figures
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.batching.alignment import align
from vnbench.batching.canvases import Size
from vnbench.records.readings import ByteRange, CanvasForecast, CardForecast, MemoryReading
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ComputeSpec, ForecastSpec, MemorySpec, TrialSpec

Quantity = Literal["allocated_bytes", "reserved_bytes", "device_bytes", "step_time_s"]

Configuration = tuple[str, int, Size]
"""Family, batch and canvas: what a forecast and a measurement have in common."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """A measured figure of one step beside its forecast."""

    spec: ForecastSpec
    """What was forecast."""
    canvas: Size
    """Height and width in pixels of the canvas."""
    quantity: Quantity
    """Its name as in records."""
    low: float
    """Lower end of the forecast."""
    central: float
    """Its central value; of bytes the middle of the bracket."""
    high: float
    """Its upper end."""
    measured: float
    """What was measured: of bytes the most, of times the mean over trials."""
    num_trials: int
    """Trials that measured it."""

    @property
    def ratio(self) -> float:
        """The measured figure over the central value."""
        return self.measured / self.central

    @property
    def is_inside(self) -> bool:
        """Whether the bracket holds the measured figure."""
        return self.low <= self.measured <= self.high

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "quantity": self.quantity,
            "height": self.canvas[0],
            "width": self.canvas[1],
            "low": self.low,
            "central": self.central,
            "high": self.high,
            "measured": self.measured,
            "num_trials": self.num_trials,
            "ratio": self.ratio,
            "is_inside": self.is_inside,
        }


def residuals(forecasts: Iterable[TrialRecord[ForecastSpec]], measured: Iterable[TrialRecord]) -> tuple[Residual, ...]:
    """Return what was measured of the configurations that were forecast, where ``measured`` are of the card itself.

    Compared are trials of the same family and batch: times of ``compute`` trials on the same canvas, and memory of
    worst-case trials on the same canvas that no other pass came before and whose allocator nobody set by hand.
    """
    found = _measured_figures(latest_attempts(measured))
    return tuple(
        Residual(
            spec=record.spec,
            canvas=canvas,
            quantity=quantity,
            low=low,
            central=central,
            high=high,
            measured=max(values) if quantity.endswith("_bytes") else statistics.fmean(values),
            num_trials=len(values),
        )
        for record in forecasts
        if record.card is not None
        for canvas, quantity, (low, central, high) in _brackets(record.card)
        if (values := found.get((_configuration(record.spec, canvas), quantity)))
    )


def _measured_figures(records: Sequence[TrialRecord]) -> dict[tuple[Configuration, Quantity], list[float]]:
    """Return what trials measured, by configuration and quantity."""
    found: dict[tuple[Configuration, Quantity], list[float]] = {}
    for memory in of_kind(records, MemorySpec):
        if memory.status == "ok" and memory.memory is not None and _is_of_the_step(memory):
            canvas = (int(align(memory.spec.worst_case_height)), int(align(memory.spec.worst_case_width)))
            for quantity, value in _peaks(memory.memory):
                found.setdefault((_configuration(memory.spec, canvas), quantity), []).append(value)
    for compute in of_kind(records, ComputeSpec):
        for (height, width), figures in compute_figures(compute).items():
            assert figures.step_time is not None
            key = _configuration(compute.spec, (int(align(height)), int(align(width))))
            found.setdefault((key, "step_time_s"), []).append(figures.step_time.value)
    return found


def _is_of_the_step(record: TrialRecord[MemorySpec]) -> bool:
    return record.spec.soak is None and not record.spec.is_traced and not record.environment.get("allocator_settings")


def _peaks(reading: MemoryReading) -> Iterator[tuple[Quantity, float]]:
    if reading.peak_allocated_bytes is not None:
        yield "allocated_bytes", reading.peak_allocated_bytes
    if reading.peak_reserved_bytes is not None:
        yield "reserved_bytes", reading.peak_reserved_bytes
        if reading.outside_allocator_bytes is not None:
            yield "device_bytes", reading.peak_reserved_bytes + reading.outside_allocator_bytes


def _brackets(card: CardForecast) -> Iterator[tuple[Size, Quantity, tuple[float, float, float]]]:
    for one in card.canvases:
        yield from ((_canvas(one), quantity, bracket) for quantity, bracket in _of_canvas(one))
    yield _canvas(card.worst_case), "device_bytes", _middle(card.device_bytes)


def _of_canvas(one: CanvasForecast) -> Iterator[tuple[Quantity, tuple[float, float, float]]]:
    yield "allocated_bytes", _middle(one.allocated_bytes)
    yield "reserved_bytes", _middle(one.reserved_bytes)
    if one.step_time_s is not None:
        yield "step_time_s", (one.step_time_s.low, one.step_time_s.central, one.step_time_s.high)


def _canvas(one: CanvasForecast) -> Size:
    return one.height, one.width


def _middle(num_bytes: ByteRange) -> tuple[float, float, float]:
    return num_bytes.low, (num_bytes.low + num_bytes.high) / 2, num_bytes.high


def _configuration(spec: TrialSpec, canvas: Size) -> Configuration:
    return spec.family, spec.batch_size, canvas
