"""Decide the rows of a comparison: one metric of one configuration on both sides, with a verdict.

A row passes only if the data show it: missing rows, and rows too noisy to show a change of the tolerance, have their
own verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from vnbench.analysis.comparison.metrics import COMPARED
from vnbench.analysis.comparison.sides import Configuration, SideFigure
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.records.readings import Metric
from vnbench.records.spec.trial_spec import TrialSpec

Verdict = Literal["better", "worse", "same", "ambiguous", "missing"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Doubt = Literal["noise", "looks slower", "sweeps", "slower"]
"""Why a row is ambiguous. noise: it exceeds the tolerance. looks slower: the same, and the estimate is beyond the
tolerance. sweeps: it is slower than its processes explain, but perhaps not than whole sweeps differ. slower: in blocks,
it is slower than chance explains, but not yet at the error rate of an alarm."""

ALL_ROWS = "all"
"""Identity of the row for all configurations together: the geometric mean of their time ratios."""

OUT_OF_ROOM = frozenset({"oom", "skipped"})
"""Statuses of a configuration that does not fit into memory; the order of the trials decides which of the two."""


MOST_OPERATORS = 6
"""Operators that a row names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """Allowed relative changes for the worse. Counts have no tolerance."""

    time: float = 0.015
    """Allowed increase of a time."""
    memory: float = 0.005
    """Allowed increase of a memory peak."""
    padding: float = 0.001
    """Allowed increase of padded pixels per valid pixel."""

    def of(self, metric: Metric) -> float:
        """Return the tolerance of a metric; 0 for a count."""
        name = COMPARED[metric].tolerance if metric in COMPARED else None
        return 0.0 if name is None else float(getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One metric of one configuration on both sides."""

    spec_id: str
    """Identity of the configuration; ALL_ROWS for the geometric mean over all configurations."""
    spec: TrialSpec | None
    """The spec; None for the geometric mean and for a benchmark of another tool."""
    metric: Metric
    """The metric."""
    baseline: float | None
    """Figure of the baseline, in the metric's unit (metrics.COMPARED); None without one."""
    candidate: float | None
    """Figure of the candidate; None without one."""
    ratio: float | None
    """Candidate over baseline; above 1 is worse."""
    interval: tuple[float, float] | None
    """For a time, the interval of the ratio, corrected for the number of rows; for other metrics, the ratios of the
    extremes of the processes; None if unknown."""
    smallest_detectable: float | None
    """Smallest relative change for the worse that would have been found (for a time, in 95 % of cases)."""
    verdict: Verdict
    """The verdict."""
    reason: str
    """The reason for the verdict, in one line for people."""
    num_processes: tuple[int, int] = (0, 0)
    """Processes of baseline and candidate; for the geometric mean, the fewest of any row."""
    doubt: Doubt | None = None
    """Why it is ambiguous; None if it is not."""
    candidate_spec_id: str | None = None
    """Identity of the configuration in the candidate: another one where the text of a user's own network changed. None
    without one, and for the geometric mean."""


def status_row(identity: str, before: Configuration, after: Configuration | None) -> Row:
    """Return the row that compares the statuses of a configuration's processes; any new failure is worse."""
    verdict: Verdict = "missing"
    reason = why_missing(after)
    if after is not None and after.statuses:
        failed_before = {status for status in before.statuses if status != "ok"}
        failed_after = {status for status in after.statuses if status != "ok"}
        is_lost = "ok" in before.statuses and "ok" not in after.statuses
        new = failed_after - failed_before
        if failed_before & OUT_OF_ROOM:
            new -= OUT_OF_ROOM
        found, gone = (sorted({*one.findings} - {*other.findings}) for one, other in ((after, before), (before, after)))
        if new or is_lost or found:
            verdict = "worse"
        elif (failed_before and not failed_after) or gone:
            verdict = "better"
        else:
            verdict = "same"
        reason = f"{_statuses(before)} -> {_statuses(after)}" if verdict != "same" else _statuses(after)
        reason += f" ({after.cause})" if verdict == "worse" and after.cause else ""
        reason += f", new: {', '.join(found)}" if found and before.findings else ""
    return Row(
        spec_id=identity,
        spec=before.spec,
        metric="status",
        baseline=None,
        candidate=None,
        ratio=None,
        interval=None,
        smallest_detectable=None,
        verdict=verdict,
        reason=reason,
        num_processes=(sum(before.statuses.values()), sum(after.statuses.values()) if after else 0),
        candidate_spec_id=None if after is None else after.name,
    )


def _statuses(configuration: Configuration) -> str:
    counts = configuration.statuses
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{status} {count} of {sum(counts.values())}" for status, count in sorted(counts.items()))


def why_missing(after: Configuration | None) -> str:
    """Return in one line why the candidate has no figure although the baseline has one."""
    if after is None:
        return "the candidate does not have this configuration"
    if after.cause is not None and "ok" not in after.statuses:
        return f"the candidate ended {_statuses(after)}: {after.cause}"
    return f"the candidate has no figure{f': {after.why_no_time}' if after.why_no_time else ''}"


def counts_otherwise(before: Configuration, after: Configuration) -> bool:
    """Return whether the peaks of two sides were counted in different ways, so that no change shows in them."""
    held = before.holds_old_gradients, after.holds_old_gradients
    return None not in held and held[0] != held[1]


def why_counted_otherwise(before: Configuration) -> str:
    """Return in one line what differs between two sides whose peaks were counted in different ways."""
    holder, other = ("baseline", "candidate") if before.holds_old_gradients else ("candidate", "baseline")
    return (
        f"not comparable: the {holder}'s instrument also counted the gradients of the step before, the {other}'s does "
        "not; measure both with one vnbench, or leave memory out of --metrics"
    )


def near_exact_row(row: Row, before: SideFigure, after: SideFigure, *, tolerance: float) -> Row:
    """Return the row of a metric that hardly differs between processes: compare the largest values directly."""
    ratio = after.largest / before.largest
    low, high = after.smallest / before.largest, after.largest / before.smallest
    spread = max(before.largest / before.smallest, after.largest / after.smallest) - 1
    verdict: Verdict = "same"
    reason = "identical" if ratio == 1 else f"{_change(ratio)}, tolerance {_share(tolerance)}"
    if ratio > 1 + tolerance:
        verdict = "worse" if low > 1 else "ambiguous"
    elif ratio < 1 / (1 + tolerance) and high < 1:
        verdict = "better"
    if verdict == "ambiguous":
        reason += f", but processes of one side differ by {_share(spread)}"
    return replace(
        row,
        interval=(low, high),
        smallest_detectable=max(tolerance, spread),
        verdict=verdict,
        reason=reason,
        doubt="looks slower" if verdict == "ambiguous" else None,
    )


def changed_operators(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Return which operators run more or less often, those that changed most first; empty where none is known to."""
    if not before or not after:
        return ""
    changes = {name: after.get(name, 0) - before.get(name, 0) for name in before.keys() | after.keys()}
    changed = sorted((name for name in changes if changes[name]), key=lambda name: (-abs(changes[name]), name))
    told = [f"{changes[name]:+d} {name}" for name in changed[:MOST_OPERATORS]]
    rest = len(changed) - len(told)
    return ", ".join([*told, f"and {rest} more"] if rest else told)


def time_row(row: Row, ratio: Ratio, *, is_identical: bool, tolerance: float) -> Row:
    """Return a row with the ratio of its times and the verdict, which is ``same`` for identical figures."""
    verdict, doubt, reason = _time_verdict(ratio, tolerance=tolerance, num_processes=row.num_processes)
    if is_identical:
        verdict, doubt, reason = "same", None, "identical"
    return replace(
        row,
        ratio=ratio.value,
        interval=(1.0, 1.0) if is_identical and ratio.interval is None else ratio.interval,
        smallest_detectable=ratio.smallest_detectable(tolerance),
        verdict=verdict,
        reason=reason,
        doubt=doubt,
    )


def _time_verdict(
    ratio: Ratio, *, tolerance: float, num_processes: tuple[int, int]
) -> tuple[Verdict, Doubt | None, str]:
    """Return the verdict on a ratio of times, the doubt about it, and the reason.

    Worse: the estimate is at least the tolerance, and exceeds 1 by more than the noise explains; better: the inverse.
    Same: a slowdown of the tolerance could have been seen, and was not. Ambiguous: all other cases.
    """
    limit = math.log1p(tolerance)
    if ratio.interval is None or ratio.half_width is None or ratio.one_sided is None:
        return (
            "ambiguous",
            "noise",
            "one process on each side: the spread between processes is unknown; measure with --replicates",
        )
    low, high = ratio.interval
    text = f"{_change(ratio.value)} ({_change(low)} to {_change(high)})"
    if ratio.is_slower(tolerance):
        return "worse", None, f"slower: {text}"
    if ratio.is_faster(tolerance):
        return "better", None, f"faster: {text}"
    if ratio.looks_slower(tolerance):
        return "ambiguous", "sweeps", f"slower than its processes explain: {text}, but perhaps not than sweeps differ"
    if ratio.is_no_slower(tolerance):
        return "same", None, f"no slowdown of {_share(tolerance)}: {text}"
    # The margin falls with the square root of the number of processes.
    needed = math.ceil(min(num_processes) * (ratio.one_sided / limit) ** 2)
    more = f"; about {needed:,} processes a side would decide it" if needed > min(num_processes) else ""
    reason = f"noise exceeds the tolerance of {_share(tolerance)}: {text}{more}"
    return "ambiguous", "looks slower" if ratio.log.value >= limit else "noise", reason


def _change(ratio: float) -> str:
    change = 100 * (ratio - 1)
    return f"{change:+.2g} %" if abs(change) < 10 else f"{change:+.0f} %"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.2g} %"
