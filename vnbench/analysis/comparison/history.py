"""Find when something changed in a history of revisions: row by row, or in all rows together.

Times are noisy. Their observation is the sweep, because the processes of a sweep share its noise. The median over the
rows of what each sweep adds to them is the part that all rows share; what is left of a row is its own. Both are series
in which changes of the mean are looked for (analysis.statistics.change_points). So a change of all rows and one of a
single row are told apart, and the noise of whole sweeps hides no change of a single row.

Every other metric hardly differs between processes. It changes where a revision is worse or better than the level
before, by the rule of the gate.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.comparison.compare import compare, differing_keys
from vnbench.analysis.comparison.identity import lasting_id
from vnbench.analysis.comparison.rows import Row, Tolerances, counts_otherwise
from vnbench.analysis.comparison.sides import Side, renamed
from vnbench.analysis.statistics.change_points import change_points
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.records.readings import METRICS, Metric
from vnbench.records.spec.trial_spec import TrialSpec

HISTORY_ERROR = 0.02
"""Probability that a history without a change shows one in its times, if its sweeps differ by chance alone."""

MIN_SWEEPS = 10
"""Fewest sweeps in which a change of times can be told from chance at HISTORY_ERROR: of ten, five differ from the other
five by as much in 2 of 252 orders."""

SHARE_ERROR, ROW_ERROR = 0.01, 0.05
"""Probabilities that at a change rows are taken for some that changed otherwise than all, and that one of these is
taken for unchanged or changed wrongly."""

SEED = 0
"""Of the permutations: the same records give the same changes."""

Direction = Literal["worse", "better"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """The records of one revision on one machine, in which each network has one text."""

    name: str
    """Commit or version, as its records tell it."""
    model_id: str | None
    """Digest of the text of a user's own network; None if it has none."""
    started_at: str
    """Start of its first trial, UTC in ISO 8601."""
    side: Side
    """Its sweeps, with the ids of ``identity.lasting_id``."""

    @property
    def times(self) -> Sequence[Mapping[str, tuple[float, int]]]:
        """The times of each sweep and their processes by row, in the order of time."""
        return [sweep for level in self.side.levels for _, sweep in sorted(level.items())]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowChange:
    """The change of one row at a revision."""

    row: str
    """Identity of the configuration (``identity.lasting_id``)."""
    spec: TrialSpec | None
    """Its spec."""
    ratio: float | None
    """The figure after over the figure before; None for a status."""
    interval: tuple[float, float] | None
    """The 95 % interval of a ratio of times; None for other metrics and with too few sweeps."""
    reason: str = ""
    """What changed, for a metric that is not a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What changed at one revision, in one metric and in one direction."""

    at: int
    """Number of the first revision that has the change."""
    metric: Metric
    """The metric."""
    direction: Direction
    """Whether it is for the worse."""
    is_common: bool
    """Whether all rows changed alike."""
    ratio: float | None
    """The ratio of all rows together, or the geometric mean of those that changed; None for a status."""
    interval: tuple[float, float] | None
    """The 95 % interval of the ratio of all rows, or of the only row; otherwise None."""
    rows: tuple[RowChange, ...]
    """The rows that changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowHistory:
    """The figures of one metric of one configuration."""

    row: str
    """Identity of the configuration (``identity.lasting_id``)."""
    spec: TrialSpec | None
    """Its spec, without the text of a user's own network."""
    metric: Metric
    """The metric."""
    figures: tuple[float | None, ...]
    """The figure of each revision; None for a revision without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The revisions that were measured on one machine, and what changed."""

    revisions: tuple[Revision, ...]
    """In order, the oldest first."""
    rows: tuple[RowHistory, ...]
    """All figures."""
    changes: tuple[Change, ...]
    """In the order of revisions."""
    has_times: bool
    """Whether there were sweeps enough to look for changes of times."""

    @property
    def keys(self) -> Mapping[str, tuple[str, ...]]:
        """The facts of the machine."""
        return self.revisions[0].side.keys


def lasting(side: Side) -> Side:
    """Return a side with the ids and specs that do not change with the text of a user's own network."""
    configurations = {
        identity: one
        if one.spec is None or one.spec.model_id is None
        else replace(one, name=lasting_id(one.spec), spec=replace(one.spec, model_id=""))
        for identity, one in side.configurations.items()
    }
    found = replace(side, configurations=configurations)
    return renamed(found, {identity: one.name for identity, one in configurations.items()})


def by_machine(revisions: Iterable[Revision]) -> list[list[Revision]]:
    """Return the revisions of each machine, in their order; what differs is what keeps times from being compared."""
    parts: list[list[Revision]] = []
    for revision in revisions:
        for part in parts:
            if not differing_keys(part[0].side, revision.side, has_times=True):
                part.append(revision)
                break
        else:
            parts.append([revision])
    return parts


def history_of(
    revisions: Sequence[Revision], *, tolerances: Tolerances | None = None, metrics: Collection[Metric] = METRICS
) -> History:
    """Return what changed in the revisions of one machine, which are in order."""
    tolerances = tolerances or Tolerances()
    sides = [revision.side for revision in revisions]
    changes = _exact_changes(sides, tolerances=tolerances, metrics=[one for one in metrics if one != "time"])
    times = _times_of(revisions) if "time" in metrics else None
    has_times = times is not None and times.logs_RN.shape[1] >= MIN_SWEEPS
    if times is not None and has_times:
        changes += _time_changes(times, tolerance=tolerances.time)
    return History(
        revisions=tuple(revisions),
        rows=tuple(_row_histories(sides, metrics=metrics)),
        changes=tuple(sorted(changes, key=lambda one: (one.at, METRICS.index(one.metric), one.direction))),
        has_times=has_times,
    )


def _row_histories(sides: Sequence[Side], *, metrics: Collection[Metric]) -> Iterable[RowHistory]:
    specs = {identity: one.spec for side in sides for identity, one in side.configurations.items()}
    for identity, spec in specs.items():
        found = [None if (one := side.configurations.get(identity)) is None else one.figures for side in sides]
        for metric in METRICS:
            figures = [figures.get(metric) if figures else None for figures in found] if metric in metrics else []
            if any(figures):
                yield RowHistory(
                    row=identity,
                    spec=spec,
                    metric=metric,
                    figures=tuple(None if figure is None else figure.value for figure in figures),
                )


def _exact_changes(sides: Sequence[Side], *, tolerances: Tolerances, metrics: Collection[Metric]) -> list[Change]:
    """Return the changes of what hardly differs between processes.

    Each revision is compared with the level before it, which is that of the last change, so that what creeps is found.
    """
    level = sides[0]
    changes: list[Change] = []
    for at, side in enumerate(sides[1:], start=1):
        rows = compare(level, side, tolerances=tolerances, metrics=metrics).rows
        found: dict[tuple[Metric, Direction], list[Row]] = {}
        known = Counter(row.metric for row in rows if row.verdict != "missing")
        for row in rows:
            if row.verdict in ("worse", "better"):
                found.setdefault((row.metric, row.verdict), []).append(row)
        for (metric, direction), changed in found.items():
            parts = tuple(
                RowChange(row=row.spec_id, spec=row.spec, ratio=row.ratio, interval=None, reason=row.reason)
                for row in changed
            )
            changes.append(
                Change(
                    at=at,
                    metric=metric,
                    direction=direction,
                    is_common=len(parts) == known[metric] > 1,
                    ratio=_mean_ratio(parts),
                    interval=None,
                    rows=parts,
                )
            )
        level = _next_level(level, side, [row for changed in found.values() for row in changed])
    return changes


def _mean_ratio(rows: Sequence[RowChange]) -> float | None:
    logs = [_log(row) for row in rows if row.ratio is not None]
    return math.exp(statistics.fmean(logs)) if logs else None


def _log(row: RowChange) -> float:
    return 0.0 if row.ratio is None else math.log(row.ratio)


def _next_level(level: Side, side: Side, changed: Sequence[Row]) -> Side:
    """Return the level after a revision: its own figures for what changed and for what is new."""
    found = dict(side.configurations) | dict(level.configurations)
    for row in changed:
        old, new = found[row.spec_id], side.configurations[row.spec_id]
        if row.metric == "status":
            found[row.spec_id] = replace(old, statuses=new.statuses, cause=new.cause)
        else:
            figures = dict(old.figures) | {row.metric: new.figures[row.metric]}
            found[row.spec_id] = replace(old, figures=figures, operators=new.operators)
    for identity, new in side.configurations.items():
        old = found[identity]
        figures = dict(new.figures) | dict(old.figures)
        if counts_otherwise(old, new) and "memory" in new.figures:
            # Later peaks are compared with the first that was counted as they are.
            figures["memory"] = new.figures["memory"]
            old = replace(old, holds_old_gradients=new.holds_old_gradients)
        found[identity] = replace(old, figures=figures)
    return replace(level, configurations=found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Times:
    """The times of R rows in N sweeps."""

    rows: tuple[str, ...]
    specs: tuple[TrialSpec | None, ...]
    logs_RN: NDArray[np.float64]
    """Logarithms of seconds; NaN for a row that a sweep lacks."""
    revisions_N: NDArray[np.int64]
    """Number of the revision of each sweep."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """The sweeps with which a revision begins, but the first."""
        return tuple(int(cut) for cut in np.flatnonzero(np.diff(self.revisions_N)) + 1)


def _times_of(revisions: Sequence[Revision]) -> _Times | None:
    """Return the times of all sweeps; None without any."""
    sweeps = [(number, sweep) for number, revision in enumerate(revisions) for sweep in revision.times]
    specs = {row: one.spec for revision in revisions for row, one in revision.side.configurations.items()}
    rows = tuple(dict.fromkeys(row for _, sweep in sweeps for row in sweep))
    if not rows:
        return None
    return _Times(
        rows=rows,
        specs=tuple(specs[row] for row in rows),
        logs_RN=np.array(
            [[math.log(sweep[row][0]) if row in sweep else math.nan for _, sweep in sweeps] for row in rows]
        ),
        revisions_N=np.array([number for number, _ in sweeps]),
    )


def _time_changes(times: _Times, *, tolerance: float) -> list[Change]:
    """Return the changes of times that reach the tolerance."""
    level_R1 = np.nanmedian(times.logs_RN, axis=1, keepdims=True)
    common_N = np.nanmedian(times.logs_RN - level_R1, axis=0)
    own_RN = times.logs_RN - level_R1 - common_N
    found = change_points(np.vstack([common_N, own_RN]), cuts=times.cuts, level=HISTORY_ERROR, seed=SEED)
    while True:
        bounds = [0, *found, len(common_N)]
        changes = {
            cut: _changes_at(times, common_N, own_RN, (start, cut, stop), tolerance=tolerance)
            for (start, cut), (_, stop) in zip(pairwise(bounds), pairwise(bounds[1:]), strict=False)
        }
        told = tuple(cut for cut in found if changes[cut])
        if told == found:
            return [one for cut in found for one in changes[cut]]
        found = told  # a change below the tolerance parts no levels


def _changes_at(
    times: _Times,
    common_N: NDArray[np.float64],
    own_RN: NDArray[np.float64],
    around: tuple[int, int, int],
    *,
    tolerance: float,
) -> list[Change]:
    """Return what changed at a cut between two levels: start, cut and stop of ``around``."""
    limit = math.log1p(tolerance)
    common = _difference(common_N, around)
    own = [_difference(own_N, around) for own_N in own_RN]
    is_common = _is_told(common, limit=limit, error=SHARE_ERROR)
    differs = [len(own) > 1 and _is_told(one, limit=limit, error=SHARE_ERROR / len(own)) for one in own]
    changed: list[RowChange] = []
    for index, logs_N in enumerate(times.logs_RN):
        # What a row that differs did is the sum of both parts; one that changed alone is known without their noise.
        difference = _difference(logs_N, around) if is_common else own[index]
        is_changed = is_common != differs[index] or (is_common and _is_told(difference, limit=limit, error=ROW_ERROR))
        if is_changed and difference is not None:
            changed.append(_row_change(times, index, difference))
    if is_common and not any(differs):
        return [_change(times, around[1], changed, whole=common)]
    parts = [[row for row in changed if (_log(row) > 0) == is_slower] for is_slower in (True, False)]
    return [_change(times, around[1], part) for part in parts if part]


def _difference(values_N: NDArray[np.float64], around: tuple[int, int, int]) -> Estimate | None:
    """Return the difference of the means of two levels; None where one has no value.

    Both share their variance, for a level may have a single sweep of a row.
    """
    start, cut, stop = around
    before, after = (part[np.isfinite(part)] for part in (values_N[start:cut], values_N[cut:stop]))
    if not len(before) or not len(after):
        return None
    value, dof = float(after.mean() - before.mean()), len(before) + len(after) - 2
    if not dof:
        return Estimate(value=value)
    variance = (before.var() * len(before) + after.var() * len(after)) / dof
    return Estimate(value=value, se=math.sqrt(variance * (1 / len(before) + 1 / len(after))), dof=dof)


def _is_told(difference: Estimate | None, *, limit: float, error: float) -> bool:
    """Return whether a difference reaches the limit and its interval excludes 0."""
    margin = None if difference is None else difference.margin(1 - error)
    return difference is not None and margin is not None and abs(difference.value) > max(margin, limit)


def _row_change(times: _Times, index: int, difference: Estimate) -> RowChange:
    ratio = Ratio(log=difference)
    return RowChange(row=times.rows[index], spec=times.specs[index], ratio=ratio.value, interval=ratio.interval)


def _change(times: _Times, cut: int, rows: Sequence[RowChange], *, whole: Estimate | None = None) -> Change:
    ratio = _mean_ratio(rows) if whole is None else Ratio(log=whole).value
    assert ratio is not None
    interval = Ratio(log=whole).interval if whole is not None else rows[0].interval if len(rows) == 1 else None
    return Change(
        at=int(times.revisions_N[cut]),
        metric="time",
        direction="worse" if ratio > 1 else "better",
        is_common=whole is not None and len(times.rows) > 1,
        ratio=ratio,
        interval=interval,
        rows=tuple(rows),
    )
