"""Compute the effect of one change of a lever on computing alone, from compute trials on the same canvases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from vnbench.analysis.comparison.lever_differences import centre_among, differing_levers
from vnbench.analysis.comparison.sides import figures_of
from vnbench.analysis.comparison.sweep_answer import LeverEffect
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.process_spread import Spread
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.noise import Noise
from vnbench.analysis.trials.summary import MemorySummary, by_spec
from vnbench.records.record import TrialRecord
from vnbench.records.spec.axes import COMPUTING_LEVERS
from vnbench.records.spec.trial_spec import ComputeSpec, TrialSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timed:
    """A compute spec with the times of its processes."""

    spec: ComputeSpec
    canvases: frozenset[tuple[int, int]]
    """Canvases, equal for all processes."""
    logs: tuple[float, ...]
    """Logarithm of each process's time: the geometric mean over its canvases of the mean step."""


def computing_effects(
    latest: Sequence[TrialRecord], *, noise: Noise, memory: Iterable[MemorySummary], centre: TrialSpec | None = None
) -> tuple[LeverEffect, ...]:
    """Return the effect of each value of each computing lever, in the spec that otherwise is nearest to the centre.

    If ``centre`` is None, it is found from the compute trials. Only specs with the same canvases are compared. The
    intervals come from the observed spread between processes, which includes the noise within them.
    """
    timed = [one for records in by_spec(latest, ComputeSpec) if (one := _timed(records)) is not None]
    middle = centre or centre_among([one.spec for one in timed], num_processes=[len(one.logs) for one in timed])
    if middle is None:
        return ()
    peaks = {summary.family: summary.peak_bytes for summary in memory}
    timed.sort(key=lambda one: len(differing_levers(one.spec, middle)))
    effects: dict[tuple[str, object], LeverEffect] = {}
    for place, one in enumerate(timed):
        for base in timed[:place]:
            levers = differing_levers(one.spec, base.spec)
            if len(levers) != 1 or levers[0] not in COMPUTING_LEVERS or one.canvases != base.canvases:
                continue
            value = getattr(one.spec, levers[0])
            with_it, without = peaks.get(one.spec.family), peaks.get(base.spec.family)
            effect = LeverEffect(
                lever=levers[0],
                spec=one.spec,
                base=base.spec,
                time=_ratio(one, base, spread=noise.spread_for("compute")),
                memory=with_it / without if with_it and without else None,
            )
            if value != getattr(middle, levers[0]):
                effects.setdefault((levers[0], value), effect)
    return tuple(effects.values())


def _timed(records: Sequence[TrialRecord[ComputeSpec]]) -> _Timed | None:
    times = [(record, figures_of(record, notes=[]).get("time")) for record in records if record.status == "ok"]
    known = [(record, time) for record, time in times if time is not None]
    canvases = {frozenset((one.height, one.width) for one in record.canvases) for record, _ in known}
    if len(canvases) != 1:
        return None
    return _Timed(spec=records[0].spec, canvases=canvases.pop(), logs=tuple(math.log(time) for _, time in known))


def _ratio(one: _Timed, base: _Timed, *, spread: Spread | None) -> Ratio:
    """Return the ratio of the times, ``one`` over ``base``."""
    value = fmean(one.logs) - fmean(base.logs)
    if spread is None:
        return Ratio(log=Estimate(value=value))
    se = spread.relative * math.sqrt(1 / len(one.logs) + 1 / len(base.logs))
    return Ratio(log=Estimate(value=value, se=se, dof=spread.degrees_of_freedom))
