"""Answer a sweep: the fastest configuration, others that may be as fast, and the effect of each lever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.analysis.comparison.best import may_be_fastest
from vnbench.analysis.comparison.lever_differences import differing_levers, varied_from
from vnbench.analysis.comparison.side_by_side import SideBySide
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.records.spec.trial_spec import TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverEffect:
    """The effect of one change of one lever."""

    lever: str
    """Name of the spec field."""
    spec: TrialSpec
    """The spec with the change."""
    base: TrialSpec
    """The spec without the change."""
    time: Ratio
    """Time for the same examples, with the change over without."""
    memory: float | None
    """Peak of a worst-case step, with the change over without; None if either was not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepAnswer:
    """The answer of a sweep."""

    fastest: TrialSummary
    """The configuration with the most valid pixels per second."""
    over_centre: Ratio | None
    """Its speed over the centre's; None if it is the centre."""
    num_others: int
    """Number of configurations compared with it."""
    contenders: tuple[TrialSummary, ...]
    """Other configurations that may be as fast, the fastest first."""
    effects: tuple[LeverEffect, ...]
    """The effect of each value of each lever, the fewest differences from the centre first."""
    has_processes: bool
    """Whether the intervals include the spread between processes."""


def answer_of(rows: Sequence[TrialSummary], sides: SideBySide) -> SweepAnswer | None:
    """Return the answer of a sweep; None if fewer than two rows can be compared.

    Only configurations that trained on the same examples as the centre are compared. The probability that the truly
    fastest is neither ``fastest`` nor among the contenders is at most 5 %.
    """
    centre = sides.centre
    comparable = [row for row in rows if row.spec == centre or sides.to_centre(row.spec) is not None]
    if centre is None or len(comparable) < 2:
        return None
    fastest, *others = sorted(comparable, key=lambda row: sides.sides[row.spec].time)
    ratios = {row.spec: sides.speed(row.spec, over=fastest.spec) for row in others}
    contenders = tuple(
        row for row in others if (ratio := ratios[row.spec]) and may_be_fastest(ratio, num_others=len(others))
    )
    return SweepAnswer(
        fastest=fastest,
        over_centre=sides.to_centre(fastest.spec),
        num_others=len(others),
        contenders=contenders,
        effects=_effects(comparable, sides, centre=centre),
        has_processes=sides.noise.spread is not None,
    )


def _effects(rows: Sequence[TrialSummary], sides: SideBySide, *, centre: TrialSpec) -> tuple[LeverEffect, ...]:
    """Return the effect of each value of each lever, in the spec that otherwise differs least from the centre."""
    by_spec: dict[TrialSpec, TrialSummary] = {row.spec: row for row in rows}
    specs = list(by_spec)
    effects: dict[tuple[str, object], LeverEffect] = {}
    for spec in sorted(specs, key=lambda one: len(differing_levers(one, centre))):
        base = varied_from(spec, specs, centre=centre)
        if base is None:
            continue
        (lever,) = differing_levers(spec, base)
        speed = sides.speed(spec, over=base)
        if speed is not None and (lever, getattr(spec, lever)) not in effects:
            peaks = [by_spec[one].worst_case_peak_bytes for one in (spec, base)]
            memory = peaks[0] / peaks[1] if peaks[0] and peaks[1] else None
            effects[lever, getattr(spec, lever)] = LeverEffect(
                lever=lever, spec=spec, base=base, time=speed.inverse, memory=memory
            )
    return tuple(effects.values())
