"""Find the ranges of image sizes that records cover."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ComputeSpec, ForecastSpec, MemorySpec, TrainingSpec, TrialSpec
from vnbench.units import PixelRange


def measured_ranges(latest: Sequence[TrialRecord]) -> dict[str, PixelRange]:
    """Return the ``heights`` and ``widths`` that the records cover; empty if unknown.

    These are the sides of the compute trials' canvases; without compute trials, the range from the smallest canvas of a
    training step to the worst case; where nothing was measured, the range that was forecast.
    """
    specs = list({record.spec_id: record.spec for record in latest}.values())
    return _ranges(_canvas_sizes(specs) or _trained_sizes(latest) | _worst_cases(specs) or _forecast_sizes(specs))


def asked_ranges(specs: Sequence[TrialSpec]) -> dict[str, PixelRange]:
    """Return the ``heights`` and ``widths`` that the specs name; empty if none does."""
    return _ranges(_canvas_sizes(specs) or _worst_cases(specs))


def _trained_sizes(latest: Sequence[TrialRecord]) -> set[tuple[int, int]]:
    return {
        size
        for record in of_kind(latest, TrainingSpec)
        if record.steps is not None
        for size in zip(record.steps["canvas_height"], record.steps["canvas_width"], strict=True)
    }


def _canvas_sizes(specs: Sequence[TrialSpec]) -> set[tuple[int, int]]:
    return {size for spec in specs if isinstance(spec, ComputeSpec) for size in spec.canvas_sizes}


def _worst_cases(specs: Sequence[TrialSpec]) -> set[tuple[int, int]]:
    return {(spec.worst_case_height, spec.worst_case_width) for spec in specs if isinstance(spec, MemorySpec)}


def _forecast_sizes(specs: Sequence[TrialSpec]) -> set[tuple[int, int]]:
    return {
        size
        for spec in specs
        if isinstance(spec, ForecastSpec)
        for size in (
            (spec.smallest_height, spec.smallest_width),
            (spec.worst_case_height, spec.worst_case_width),
        )
    }


def _ranges(canvases: Collection[tuple[int, int]]) -> dict[str, PixelRange]:
    if not canvases:
        return {}
    heights, widths = ([size[side] for size in canvases] for side in (0, 1))
    return {
        "heights": PixelRange(start=min(heights), stop=max(heights)),
        "widths": PixelRange(start=min(widths), stop=max(widths)),
    }
