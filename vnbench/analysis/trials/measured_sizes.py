"""Which sizes of images some records were measured for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ComputeSpec, MemorySpec, TrainingSpec, TrialSpec
from vnbench.units import PixelRange


def measured_ranges(latest: Sequence[TrialRecord]) -> dict[str, PixelRange]:
    """Return the widths and heights that the records were measured for; empty where nothing tells.

    Those of compute trials' canvases; without any, from the smallest canvas of a training step to the worst case.
    """
    specs = [record.spec for record in latest]
    trained = {
        size
        for record in of_kind(latest, TrainingSpec)
        if record.steps is not None
        for size in zip(record.steps["canvas_height"], record.steps["canvas_width"], strict=True)
    }
    return _ranges(_canvas_sizes(specs) or trained | _worst_cases(specs))


def asked_ranges(specs: Sequence[TrialSpec]) -> dict[str, PixelRange]:
    """Return the widths and heights that some specifications name; empty where none does."""
    return _ranges(_canvas_sizes(specs) or _worst_cases(specs))


def _canvas_sizes(specs: Sequence[TrialSpec]) -> set[tuple[int, int]]:
    return {size for spec in specs if isinstance(spec, ComputeSpec) for size in spec.canvas_sizes}


def _worst_cases(specs: Sequence[TrialSpec]) -> set[tuple[int, int]]:
    return {(spec.worst_case_height, spec.worst_case_width) for spec in specs if isinstance(spec, MemorySpec)}


def _ranges(canvases: Collection[tuple[int, int]]) -> dict[str, PixelRange]:
    if not canvases:
        return {}
    heights, widths = ([size[side] for size in canvases] for side in (0, 1))
    return {
        "heights": PixelRange(start=min(heights), stop=max(heights)),
        "widths": PixelRange(start=min(widths), stop=max(widths)),
    }
