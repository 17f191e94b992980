"""The words of a gate that all its outputs share: names of rows, figures with units, and what it comes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.metrics import COMPARED
from vnbench.analysis.comparison.rows import ALL_ROWS, VERDICTS, Row, Verdict
from vnbench.analysis.comparison.sweep_spread import ASSUMED_SPREAD
from vnbench.output.words.levers import describe, kind_told, varying, worth_naming
from vnbench.output.words.numbers import MISSING, significant
from vnbench.records.readings import Metric
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count, format_bytes

HOW_IT_DECIDES = (
    "Time is worse when its ratio reaches the tolerance and exceeds 1 by more than its noise explains, that of "
    "processes and that of whole sweeps: at most 1 % of comparisons of equals find any row worse. One process is one "
    "observation, however many steps it has. The geometric mean over all configurations is a row of its own, and "
    "decides: the gate passes if that row could have seen a slowdown of the tolerance. A single row whose noise "
    "exceeds the tolerance is ambiguous and does not hinder that, unless it is slower than its processes explain. "
    "Memory, padding and counts hardly differ between processes and are compared directly. A missing row never passes. "
    "Times of training and loading are per megapixel of valid pixels, those of computing per step. detects: the "
    "smallest slowdown that would show in 95 % of cases."
)
"""Stands under every table of a gate."""


HOW_BLOCKS_DECIDE = (
    "A block runs every configuration on both sides in direct succession. Time is worse when the interval of its "
    "ratio, which holds however often one looks, excludes 1 and the estimate reaches the tolerance. Of gates of "
    "unchanged code at most 0.5 % call the mean of all configurations worse, and 0.5 % any single one. The gate passes "
    "when nothing is worse, the mean shows no slowdown of the tolerance, and no configuration looks slower. Memory, "
    "padding and counts hardly differ between processes and are compared directly. Times of training and loading are "
    "per megapixel of valid pixels, those of computing per step. detects: the smallest slowdown that so many blocks "
    "show in 95 % of cases."
)
"""The same under the table of a gate that measured block by block."""


def names_of(rows: Iterable[Row]) -> Mapping[str, str]:
    """Return what the configurations of some rows are called (``named``)."""
    return named({row.spec_id: row.spec for row in rows})


def named(configurations: Mapping[str, TrialSpec | None]) -> Mapping[str, str]:
    """Return what each configuration is called: its kind, and the levers in which those of its kind differ.

    Without such levers it is called a trial: of its metrics one is called memory, as a kind is.
    """
    found = {ALL_ROWS: "all configurations"}
    by_kind: dict[str, dict[str, TrialSpec]] = {}
    for spec_id, spec in configurations.items():
        if spec is not None:
            by_kind.setdefault(kind_told(spec), {})[spec_id] = spec
        else:
            found.setdefault(spec_id, spec_id)
    for kind, specs in by_kind.items():
        names = varying(specs.values())
        shown = [name for name in worth_naming(specs.values()) if name in names]
        for spec_id, spec in specs.items():
            levers = describe(spec, names=shown)
            found[spec_id] = f"{kind}: {levers}" if levers else f"{kind} trial"
    repeated = {name for name, times in Counter(found.values()).items() if times > 1}
    return {one: f"{name} ({one})" if name in repeated else name for one, name in found.items()}


def blunt_lines(rows: Sequence[Row], names: Mapping[str, str]) -> tuple[str, ...]:
    """Return what ambiguous rows could have seen, with a line of its own for each that looks slower."""
    ambiguous = [row for row in rows if row.verdict == "ambiguous"]
    single = [row for row in ambiguous if row.metric == "time" and row.interval is None]
    blunt = [row for row in ambiguous if row not in single]
    lines = []
    if single:
        lines.append(f"{count(len(single), 'row')} ambiguous: {single[0].reason}")
    if blunt:
        seen = sorted(row.smallest_detectable or 0.0 for row in blunt)
        span = " to ".join(dict.fromkeys(significant(100 * change, digits=2) for change in (seen[0], seen[-1])))
        lines.append(f"{count(len(blunt), 'row')} ambiguous, too noisy for the tolerance; {span} % slower would show")
    lines += [
        f"{names[row.spec_id]}, {row.metric}, looks slower by {change(row.ratio)}"
        + (", within its noise" if row.doubt == "looks slower" else ", beyond the noise of its processes")
        for row in ambiguous
        if row.doubt in ("looks slower", "sweeps", "slower")
    ]
    return tuple(lines)


def sweep_line(comparison: Comparison) -> str | None:
    """Return what is known of the noise between whole sweeps; None where no times were compared in sweeps."""
    sweeps = comparison.sweeps
    if sweeps is None or (sweeps.dof == math.inf and sweeps.mean == 0):
        return None
    spread = f"{significant(100 * sweeps.mean, digits=2)} %"
    if sweeps.dof == math.inf:
        return f"Whole sweeps are taken to differ by {spread}, as --sweep-spread says."
    if sweeps.is_known:
        return f"Whole sweeps of one revision differ by {spread} here ({sweeps.dof:.0f} degrees of freedom)."
    return (
        "Too few sweeps of one revision to tell a change from a sweep that was slow as a whole; they are taken to "
        f"differ by {significant(100 * ASSUMED_SPREAD, digits=2)} %. A folder of several sweeps a side shows how far "
        "they do, and so does the history of a baseline file, to which every --update adds."
    )


def figure(value: float | None, *, metric: Metric) -> str:
    """Return a figure of a metric with its unit, for people."""
    if value is None:
        return MISSING
    compared = COMPARED[metric]
    if compared.unit == "bytes":
        return format_bytes(value)
    if compared.unit == "s":
        return f"{significant(value, digits=4)} s" if value >= 0.01 else f"{significant(1000 * value, digits=4)} ms"
    # Padding as everywhere else: as a share of all pixels.
    return f"{value:,.0f}" if compared.digits is None else f"{100 * (1 - 1 / value):.2f} %"


def change(ratio: float | None) -> str:
    """Return a ratio as a change in percent with its sign; MISSING for none."""
    return MISSING if ratio is None else f"{100 * (ratio - 1):+.2f} %"


def interval(row: Row) -> str:
    """Return the interval of a row's ratio as two changes."""
    return MISSING if row.interval is None else f"{change(row.interval[0])} to {change(row.interval[1])}"


def detects(row: Row) -> str:
    """Return the smallest change that a row would have shown."""
    return MISSING if row.smallest_detectable is None else f"{significant(100 * row.smallest_detectable, digits=2)} %"


def headline(comparison: Comparison) -> str:
    """Return what a comparison came to, in one line."""
    if comparison.differing:
        return f"undecided: not comparable ({'; '.join(comparison.differing)})"
    if not comparison.rows:
        return "undecided: nothing to compare"
    counts = Counter(row.verdict for row in comparison.rows)
    order: Sequence[Verdict] = ("worse", "missing", "ambiguous", "better", "same")
    assert set(order) == set(VERDICTS)
    parts = [f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict]]
    if comparison.notes and comparison.outcome == "undecided":
        parts.append("and some records could not be read")
    return f"{comparison.outcome}: {', '.join(parts)} of {count(len(comparison.rows), 'row')}"


def how_it_decides(comparison: Comparison) -> str:
    """Return by which rules a comparison was decided."""
    return HOW_BLOCKS_DECIDE if comparison.is_in_blocks else HOW_IT_DECIDES


def advice(comparison: Comparison) -> tuple[str, ...]:
    """Return what there is to know and to do beyond the rows, line by line."""
    lines = [*comparison.notes, *comparison.remarks]
    if comparison.is_in_blocks:
        if not comparison.rows and not comparison.differing:
            lines.append("the time ended before every configuration had run on both sides; the same command goes on")
        if comparison.is_blunt_only:
            lines.append("undecided: the same command goes on where it stopped; --time-cap gives it more time at once")
        return tuple(lines)
    if comparison.not_in_baseline:
        new = count(len(comparison.not_in_baseline), "configuration")
        lines.append(f"new in the candidate: {new}; --update adds them to the baseline")
    if any(row.verdict == "better" for row in comparison.rows):
        lines.append(
            "better by more than the tolerance: write it into the baseline with --update, or its loss goes unnoticed"
        )
    if any(row.doubt == "sweeps" for row in comparison.rows):
        lines.append(
            "slower, or measured in a slow hour: measure both sides in turn (--against REV, or --rerun), which tells "
            "them apart"
        )
    elif any(row.verdict == "ambiguous" and comparison.is_hindrance(row) for row in comparison.rows):
        lines.append(
            "ambiguous: measure in more processes (sweep --replicates N), or both sides in turn (--against REV); "
            "gate --calibrate tells how many processes this machine needs"
        )
    return tuple(lines)
