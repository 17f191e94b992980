"""Compare a candidate with its baseline, row by row, and decide the outcome."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vnbench.analysis.comparison.identity import aligned
from vnbench.analysis.comparison.ratios import FAMILY_ERROR, Compared, SweepNoise, compare_times
from vnbench.analysis.comparison.rows import (
    ALL_ROWS,
    Row,
    Tolerances,
    changed_operators,
    counts_otherwise,
    near_exact_row,
    status_row,
    time_row,
    why_counted_otherwise,
    why_missing,
)
from vnbench.analysis.comparison.sides import Configuration, Side, SideFigure
from vnbench.analysis.comparison.sweep_spread import SweepSpread
from vnbench.records.machine_keys import SPEED_KEYS
from vnbench.records.readings import METRICS, Metric

Outcome = Literal["pass", "regression", "undecided"]

SUMMARY_PRECISION = 1e-3
"""Relative tolerance for equal summaries: they are kept with four digits, which are right to 0.05 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The result of a comparison."""

    rows: tuple[Row, ...]
    """All rows, in the order of the baseline; the geometric mean comes first."""
    differing: tuple[str, ...] = ()
    """Keys that differ, each with both values; if there are any, nothing was compared."""
    notes: tuple[str, ...] = ()
    """Notes on what could not be read on either side."""
    sweeps: SweepSpread | None = None
    """How far whole sweeps differ, as far as it is known; None where no times were compared."""
    is_in_turn: bool = False
    """Whether the last decision rests on both sides measured in turn."""
    not_in_baseline: tuple[str, ...] = ()
    """Configurations that only the candidate has, which were not compared."""
    remarks: tuple[str, ...] = ()
    """What there is to know that hinders no pass: a user's own network has another text."""
    is_in_blocks: bool = False
    """Whether times were compared block by block (comparison.blocks), which has error rates of its own."""

    @property
    def outcome(self) -> Outcome:
        """``regression`` if a row is worse, ``pass`` if no row hinders that, otherwise ``undecided``."""
        if any(row.verdict == "worse" for row in self.rows):
            return "regression"
        return "pass" if self.rows and not self.notes and not any(map(self.is_hindrance, self.rows)) else "undecided"

    def is_hindrance(self, row: Row) -> bool:
        """Return whether a row keeps the gate from passing.

        A missing one does. Of times, the mean of all rows decides: a single row that is too noisy for its tolerance
        does not, unless it is slower than its processes explain.
        """
        if row.verdict != "ambiguous":
            return row.verdict in ("worse", "missing")
        is_single_time = row.metric == "time" and row.spec_id != ALL_ROWS
        return not is_single_time or row.doubt in ("sweeps", "slower") or not self._has_mean

    @property
    def _has_mean(self) -> bool:
        return any(row.spec_id == ALL_ROWS for row in self.rows)

    @property
    def is_blunt_only(self) -> bool:
        """Whether only noise leaves it undecided: nothing was missing or unreadable."""
        return (
            self.outcome == "undecided"
            and bool(self.rows)
            and not self.notes
            and all(row.verdict != "missing" for row in self.rows)
        )


def compare(
    baseline: Side,
    candidate: Side,
    *,
    tolerances: Tolerances | None = None,
    metrics: Collection[Metric] = METRICS,
    family_error: float = FAMILY_ERROR,
    sweep_spread: float | None = None,
) -> Comparison:
    """Return the comparison of two sides in the given metrics, by default all.

    ``family_error`` is that of ratios.compare_times. ``sweep_spread`` is the relative standard deviation between whole
    sweeps; None to find it in the sides' own sweeps and in the history of a baseline.

    Device name, processor and threads must agree only if times are compared; all other metrics depend only on the type
    of the device.
    """
    tolerances = tolerances or Tolerances()
    candidate, remarks = aligned(baseline, candidate)
    notes = tuple(dict.fromkeys((*baseline.notes, *candidate.notes)))
    differing = differing_keys(baseline, candidate, has_times="time" in metrics)
    if differing:
        return Comparison(rows=(), differing=differing, notes=notes, remarks=remarks)
    rows: list[Row] = []
    for identity, before in baseline.configurations.items():
        after = candidate.configurations.get(identity)
        rows += _rows(identity, before, after, tolerances=tolerances, metrics=metrics)
    pairs = {
        row.spec_id: (
            baseline.configurations[row.spec_id].figures["time"],
            candidate.configurations[row.spec_id].figures["time"],
        )
        for row in rows
        if row.metric == "time" and row.candidate is not None
    }
    compared = compare_times(
        list(pairs.values()),
        family_error=family_error,
        noise=_sweep_noise((baseline, candidate), list(pairs), told=sweep_spread),
    )
    return Comparison(
        rows=tuple(_with_times(rows, pairs, compared, tolerance=tolerances.time)),
        notes=notes,
        sweeps=compared.sweeps if pairs else None,
        not_in_baseline=tuple(one for one in candidate.configurations if one not in baseline.configurations),
        remarks=remarks,
    )


def differing_keys(baseline: Side, candidate: Side, *, has_times: bool) -> tuple[str, ...]:
    """Return the keys that differ, each with both values.

    Device name, processor and threads matter only for times; processor and threads are skipped if one side lacks them.
    Corpora are compared only if the sides have no common configuration: a spec names its corpus, so rows of different
    corpora are never compared.
    """
    has_common = bool(baseline.configurations.keys() & candidate.configurations.keys())
    found = []
    for key in baseline.keys.keys() | candidate.keys.keys():
        there, here = baseline.keys.get(key, ()), candidate.keys.get(key, ())
        if (key == "device" and not has_times) or (key == "corpus" and has_common):
            continue
        if key in SPEED_KEYS and not (has_times and there and here):
            continue
        if there != here:
            found.append(f"{key}: baseline {', '.join(there) or 'unknown'}, candidate {', '.join(here) or 'unknown'}")
    return tuple(sorted(found))


def _rows(
    identity: str,
    before: Configuration,
    after: Configuration | None,
    *,
    tolerances: Tolerances,
    metrics: Collection[Metric],
) -> list[Row]:
    """Return the rows of one configuration; rows of time have no interval and no verdict yet."""
    rows = [status_row(identity, before, after)] if "status" in metrics and (before.statuses or after is None) else []
    for metric in METRICS:
        there = before.figures.get(metric)
        if metric not in metrics or there is None:
            continue
        here = None if after is None else after.figures.get(metric)
        bare = Row(
            spec_id=identity,
            spec=before.spec,
            metric=metric,
            baseline=there.value,
            candidate=None if here is None else here.value,
            ratio=None if here is None else here.value / there.value,
            interval=None,
            smallest_detectable=None,
            verdict="missing",
            reason=why_missing(after),
            num_processes=(there.num_processes, 0 if here is None else here.num_processes),
            candidate_spec_id=None if after is None else after.name,
        )
        if after is None or here is None or metric == "time":
            rows.append(bare)
            continue
        if metric == "memory" and counts_otherwise(before, after):
            rows.append(replace(bare, ratio=None, reason=why_counted_otherwise(before)))
            continue
        # Nothing disturbs a forecast.
        tolerance = 0.0 if before.spec is not None and before.spec.kind == "forecast" else tolerances.of(metric)
        row = near_exact_row(bare, there, here, tolerance=tolerance)
        if metric == "operators" and (changes := changed_operators(before.operators, after.operators)):
            row = replace(row, reason=f"{row.reason}: {changes}")
        rows.append(row)
    return rows


def _with_times(
    rows: Sequence[Row],
    pairs: Mapping[str, tuple[SideFigure, SideFigure]],
    compared: Compared,
    *,
    tolerance: float,
) -> list[Row]:
    """Return the rows with verdicts for times, after a row for the geometric mean."""
    timed = [row for row in rows if row.metric == "time" and row.spec_id in pairs]
    decided = {
        row.spec_id: time_row(row, ratio, is_identical=_is_identical(there, here), tolerance=tolerance)
        for row, ratio, (there, here) in zip(timed, compared.rows, pairs.values(), strict=True)
    }
    found = [decided.get(row.spec_id, row) if row.metric == "time" else row for row in rows]
    if compared.mean is None:
        return found
    mean = Row(
        spec_id=ALL_ROWS,
        spec=None,
        metric="time",
        baseline=math.exp(sum(math.log(row.baseline or 1.0) for row in timed) / len(timed)),
        candidate=math.exp(sum(math.log(row.candidate or 1.0) for row in timed) / len(timed)),
        ratio=None,
        interval=None,
        smallest_detectable=None,
        verdict="ambiguous",
        reason="",
        num_processes=(min(row.num_processes[0] for row in timed), min(row.num_processes[1] for row in timed)),
    )
    is_identical = all(_is_identical(there, here) for there, here in pairs.values())
    return [time_row(mean, compared.mean, is_identical=is_identical, tolerance=tolerance), *found]


def _sweep_noise(sides: tuple[Side, Side], rows: Sequence[str], *, told: float | None) -> SweepNoise:
    """Return what the sweeps of both sides show of the rows, which are named by their number."""
    numbers = {row: str(number) for number, row in enumerate(rows)}
    levels = [
        {name: {numbers[row]: time for row, time in sweep.items() if row in numbers} for name, sweep in level.items()}
        for side in sides
        for level in side.levels
    ]
    return SweepNoise(levels=levels, counts=(sides[0].num_sweeps, sides[1].num_sweeps), told=told)


def _is_identical(before: SideFigure, after: SideFigure) -> bool:
    """Return whether both sides hold the same figures; summaries are compared within SUMMARY_PRECISION."""
    if before.values and after.values:
        return before.values == after.values
    names = ("value", "smallest", "largest")
    return before.num_processes == after.num_processes and all(
        math.isclose(getattr(before, name), getattr(after, name), rel_tol=SUMMARY_PRECISION) for name in names
    )
