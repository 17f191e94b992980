"""Step time and memory of a family as they were forecast for a card: each a bracket."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vnbench.analysis.models.step_fit import StepFit
from vnbench.analysis.models.step_model import StepModel, StepPoint, straight_line
from vnbench.batching.alignment import align
from vnbench.batching.canvases import Size
from vnbench.records.readings import CardForecast, TimeRange
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ForecastSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastFit:
    """What a forecast says of a family beside its central step times."""

    low: StepModel
    """Step times that it cannot fall below."""
    high: StepModel
    """Upper end of its step times."""
    card: CardForecast
    """Its memory."""
    worst_case: Size
    """Height and width in pixels, aligned, of the worst case that its memory is of."""


def central_points(record: TrialRecord[ForecastSpec]) -> list[StepPoint]:
    """Return the central step time of each canvas of a forecast."""
    return _points(record, lambda time: time.central)


def fit_forecast(record: TrialRecord[ForecastSpec]) -> tuple[StepFit, ForecastFit]:
    """Return the line through a forecast's central step times, without errors, and what brackets it."""
    assert record.card is not None
    model = straight_line(central_points(record))
    central = StepFit(
        model=model,
        left_out=(),
        num_sizes=len(record.card.canvases),
        num_processes=1,
        size_error=None,
        degrees_of_freedom=0,
        covariance=tuple((0.0,) * len(model.coefficients) for _ in model.coefficients),
        # Its bracket stands for all that a forecast may be off by.
        between=0.0,
        between_degrees_of_freedom=math.inf,
    )
    spec = record.spec
    return central, ForecastFit(
        low=straight_line(_points(record, lambda time: time.low)),
        high=straight_line(_points(record, lambda time: time.high)),
        card=record.card,
        worst_case=(int(align(spec.worst_case_height)), int(align(spec.worst_case_width))),
    )


def forecast_records(records: Iterable[TrialRecord]) -> list[TrialRecord[ForecastSpec]]:
    """Return the forecasts that runs can be composed of: of passes that are whole steps, and whose time is told."""
    return [
        record
        for record in of_kind(records, ForecastSpec)
        if record.card is not None
        and record.card.worst_case.step_time_s is not None
        and record.spec.accumulation_steps == 1
    ]


def _points(record: TrialRecord[ForecastSpec], seconds: Callable[[TimeRange], float]) -> list[StepPoint]:
    assert record.card is not None
    return [
        StepPoint(
            padded_pixels=record.spec.batch_size * canvas.height * canvas.width,
            step_time_s=seconds(canvas.step_time_s),
            process=0,
        )
        for canvas in record.card.canvases
        if canvas.step_time_s is not None
    ]
