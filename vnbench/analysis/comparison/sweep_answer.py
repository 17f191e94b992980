"""What a sweep answers: the fastest configuration, which others may be as fast, and what each lever costs or saves."""

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
    """What one change of one lever does, against the configuration that it was changed in."""

    lever: str
    """Name of its spec field."""
    spec: TrialSpec
    """With the change."""
    base: TrialSpec
    """Without it."""
    time: Ratio
    """Time for the same examples, with over without."""
    memory: float | None
    """Peak of a worst-case step, with over without; None where one of them was not measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepAnswer:
    """What a sweep answers."""

    fastest: TrialSummary
    """The configuration with the most valid pixels per second."""
    over_centre: Ratio | None
    """Its speed over the centre's; None where it is the centre."""
    num_others: int
    """Configurations that were compared with it."""
    contenders: tuple[TrialSummary, ...]
    """Those of them that may be as fast, the fastest first."""
    effects: tuple[LeverEffect, ...]
    """One for each lever and value, in the order of the rows."""
    has_processes: bool
    """Whether what differs between processes is in the intervals."""


def answer_of(rows: Sequence[TrialSummary], sides: SideBySide) -> SweepAnswer | None:
    """Return the answer of a sweep's rows; None where fewer than two of them can be compared.

    Only configurations that trained on the same examples as the centre take part. The chance that the truly fastest
    is not among the fastest and its contenders is at most 5 %.
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
    """Return what each value of each lever does where the least else differs from the centre."""
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
