"""The warning of a cap that ended measuring while its figure was noisy: by one interval, wherever it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.analysis.statistics.process_spread import Spread
from vnbench.records.readings import Stop, StopRule
from vnbench.records.record import TrialWarning
from vnbench.records.spec.trial_spec import ComputeSpec, ImagesSpec, TrialSpec
from vnbench.units import count, format_percent

NOISY_HALF_WIDTH = 0.05
"""Relative half-width above which a cap that ended measuring is warned of: of two configurations a tenth apart neither
could then be said to be faster."""

MIN_FREEDOM = 4
"""Degrees of freedom of a spread between processes from which on an interval rests on it: Student's t is 2.8 there, and
12.7 with the two steps of one process."""

FACTOR = 4
"""By how much a cap is raised in what is suggested: four times as many steps halve an interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppedFigure:
    """A figure whose measuring ended, with the interval that is told of it."""

    stop: Stop
    """Why it ended."""
    relative_half_width: float | None
    """Half-width of the interval, relative to the figure; None where it cannot be told."""


def noise_warning(spec: TrialSpec, figures: Sequence[StoppedFigure], *, part: str | None) -> TrialWarning | None:
    """Return a warning of the figures that a cap left noisy; None where there are none.

    ``part`` is what each figure is of, as ``canvas``, where a trial has several.
    """
    noisy = [
        (figure.relative_half_width, figure.stop)
        for figure in figures
        if figure.stop.rule != "noise-target"
        and figure.relative_half_width is not None
        and figure.relative_half_width > NOISY_HALF_WIDTH
    ]
    if not noisy:
        return None
    worst, stop = max(noisy, key=lambda one: one[0])
    target = format_percent(stop.noise_target) if stop.noise_target is not None else "no"
    where = f"{len(noisy)} of {count(len(figures), part)}, at worst " if part else ""
    message = (
        f"{where}± {format_percent(worst)} when {stop.rule} ended measuring ({target} target): "
        f"try {_larger_cap(spec, stop.rule)}, or a quieter machine"
    )
    return TrialWarning(code="noisy", message=message, figures={"relative_half_width": worst})


def capped_stop(stops: Sequence[Stop]) -> Stop | None:
    """Return why measuring a figure ended in several processes: by a cap if it was so in any; None without any."""
    return next((stop for stop in stops if stop.rule != "noise-target"), stops[0] if stops else None)


def settled_warnings(
    spec: TrialSpec,
    warnings: Sequence[TrialWarning],
    figures: Sequence[StoppedFigure],
    *,
    part: str | None,
    spread: Spread | None = None,
) -> tuple[TrialWarning, ...]:
    """Return the warnings of a spec's processes, with one of noise at most, which tells the intervals of the figures.

    A process knows its own steps alone, and with few of them its interval is wide. The figure over all processes knows
    from the other trials how much steps and processes differ: its interval may be narrower or wider. Where the
    ``spread`` between processes rests on MIN_FREEDOM, few steps are no doubt of their own: it holds their differences.
    """
    if spread is not None and spread.degrees_of_freedom >= MIN_FREEDOM:
        warnings = [warning for warning in warnings if warning.code != "few-steps"]
    if all(warning.code != "noisy" for warning in warnings):
        return tuple(warnings)
    settled = noise_warning(spec, figures, part=part)
    return (*(warning for warning in warnings if warning.code != "noisy"), *([settled] if settled else []))


def _larger_cap(spec: TrialSpec, rule: StopRule) -> str:
    """Return the option that raises a cap, as it is written."""
    if rule == "max-epochs" and isinstance(spec, ImagesSpec):
        return f"--max-epochs {FACTOR * (spec.max_epochs or 1)}"
    if rule == "max-steps" and isinstance(spec, ComputeSpec):
        return f"--max-steps {FACTOR * spec.max_steps}"
    cap_s = spec.max_measuring_s if isinstance(spec, ImagesSpec | ComputeSpec) else None
    return "--measuring-time" + ("" if cap_s is None else f" {FACTOR * cap_s:g}s")
