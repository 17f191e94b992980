"""Warn if a limit ended measuring while a figure was still noisy; every report uses the same interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.analysis.statistics.process_spread import Spread
from vnbench.records.readings import Stop, StopRule
from vnbench.records.record import TrialWarning
from vnbench.records.spec.trial_spec import ComputeSpec, ImagesSpec, TrialSpec
from vnbench.units import count, format_percent

NOISY_HALF_WIDTH = 0.05
"""Relative half-width above which a limit causes a warning: two configurations that differ by a tenth could then not be
ranked."""

MIN_FREEDOM = 4
"""Fewest degrees of freedom of a spread between processes that can replace the spread of few steps: Student's t is 2.8
with 4 degrees of freedom, and 12.7 with the two steps of one process."""

FACTOR = 4
"""Factor by which the suggestion raises a limit: four times as many steps halve an interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppedFigure:
    """A figure with its reported interval, and why its measuring ended."""

    stop: Stop
    """Why measuring ended."""
    relative_half_width: float | None
    """Half-width of the interval, relative to the figure; None if unknown."""


def noise_warning(spec: TrialSpec, figures: Sequence[StoppedFigure], *, part: str | None) -> TrialWarning | None:
    """Return a warning about the figures that a limit left noisy; None if there are none.

    ``part`` names what a figure belongs to, such as ``canvas``, if a trial has several figures.
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
    interval = f"± {format_percent(worst)}" if worst < 1 else "an interval that reaches zero"
    message = (
        f"{where}{interval} when {stop.rule} ended measuring ({target} target): "
        f"try {_larger_cap(spec, stop.rule)}, or a quieter machine"
    )
    return TrialWarning(code="noisy", message=message, figures={"relative_half_width": worst})


def capped_stop(stops: Sequence[Stop]) -> Stop | None:
    """Return why measuring a figure ended in several processes: a limit if any process reached one; None for none."""
    return next((stop for stop in stops if stop.rule != "noise-target"), stops[0] if stops else None)


def settled_warnings(
    spec: TrialSpec,
    warnings: Sequence[TrialWarning],
    figures: Sequence[StoppedFigure],
    *,
    part: str | None,
    spread: Spread | None = None,
) -> tuple[TrialWarning, ...]:
    """Return the warnings of a spec's processes, with at most one about noise, which uses the reported intervals.

    The interval of a process uses only its own steps, and is wide if they are few. The figure over all processes also
    uses the other trials' differences between steps and processes, so its interval may be narrower or wider. If the
    ``spread`` between processes has MIN_FREEDOM, the warning about few steps is dropped: the spread covers them.
    """
    if spread is not None and spread.degrees_of_freedom >= MIN_FREEDOM:
        warnings = [warning for warning in warnings if warning.code != "few-steps"]
    if all(warning.code != "noisy" for warning in warnings):
        return tuple(warnings)
    settled = noise_warning(spec, figures, part=part)
    return (*(warning for warning in warnings if warning.code != "noisy"), *([settled] if settled else []))


def _larger_cap(spec: TrialSpec, rule: StopRule) -> str:
    """Return the option that raises a limit, such as ``--max-steps 400``."""
    if rule == "max-epochs" and isinstance(spec, ImagesSpec):
        return f"--max-epochs {FACTOR * (spec.max_epochs or 1)}"
    if rule == "max-steps" and isinstance(spec, ComputeSpec):
        return f"--max-steps {FACTOR * spec.max_steps}"
    cap_s = spec.max_measuring_s if isinstance(spec, ImagesSpec | ComputeSpec) else None
    return "--measuring-time" + ("" if cap_s is None else f" {FACTOR * cap_s:g}s")
