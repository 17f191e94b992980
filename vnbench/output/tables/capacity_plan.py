"""A capacity plan for the terminal: the answer first, then what to change, then all configurations."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.planning.capacity import PlannedRun, pareto_front
from vnbench.analysis.planning.spread import NUM_DRAWS, Finish
from vnbench.output.fitted_table import FittedTable, paragraphs
from vnbench.output.view import Column, View
from vnbench.output.words.capacity_plan import (
    Report,
    answer_lines,
    change_of,
    lines_to_paste,
    memory_told,
    named,
    probability,
)
from vnbench.units import format_bytes, format_duration

MAX_ROWS = 12
"""Configurations that are listed; the others are in the JSON."""

MAX_CHANGES = 10


def plan_table(report: Report, *, first: str = "") -> RenderableType:
    """Return the plan: what to do and when it ends, what each change buys, and the configurations.

    ``first`` is said above all.
    """
    parts: list[RenderableType] = [
        *([paragraphs([first]), Text()] if first else []),
        paragraphs(list(answer_lines(report))),
        Text(),
        Text("\n".join(lines_to_paste(report))),
    ]
    if report.changes:
        changes = FittedTable(view=_changes_view(report))
        parts += [Text(), Text(f"One change at a time from {named(report.current)}:"), changes]
    parts += [Text(), Text(_configurations_line(report)), FittedTable(view=_runs_view(report))]
    notes = [f"! {warning}" for warning in report.warnings]
    notes.append(
        f"{', '.join(report.origin.parts())}; equal epochs; finish times from {NUM_DRAWS:,} even draws, seed "
        f"{report.asked.seed}"
    )
    return Group(*parts, Text(), paragraphs(notes))


def _changes_view(report: Report) -> View[tuple[str, PlannedRun]]:
    current = report.current

    def change(change: tuple[str, PlannedRun]) -> str:
        lever, one = change
        return change_of(lever, current, one)

    def more_s(change: tuple[str, PlannedRun]) -> float | None:
        more = change[1].finish.p50 - current.finish.p50
        return more if math.isfinite(more) else None

    def more_bytes(change: tuple[str, PlannedRun]) -> float | None:
        before, after = current.need_bytes, change[1].need_bytes
        return None if before is None or after is None else after - before

    return View(
        report.changes[:MAX_CHANGES],
        (
            Column("change", change, align="left", is_folded=True),
            Column("takes", lambda change: change[1].finish.p50, text=_time),
            Column("in 80 % of cases", lambda change: _likely(change[1].finish), gives_way=2),
            Column("time", more_s, text=lambda more: _signed(format_duration(abs(more)), more)),
            Column("memory", more_bytes, text=lambda more: _signed(format_bytes(abs(more)), more), gives_way=1),
            Column("fits", lambda change: change[1].verdict),
        ),
    )


def _configurations_line(report: Report) -> str:
    shown = min(MAX_ROWS, len(report.runs))
    return f"Configurations, the fastest {shown} of {len(report.runs)} (* none is both faster and smaller):"


def _runs_view(report: Report) -> View[PlannedRun]:
    front = pareto_front(report.runs)

    def configuration(one: PlannedRun) -> str:
        return ("* " if any(one is other for other in front) else "  ") + named(one)

    columns: list[Column[PlannedRun]] = [
        Column("configuration", configuration, align="left", is_folded=True),
        Column("p10", lambda one: one.finish.p10, text=_time, gives_way=3),
        Column("p50", lambda one: one.finish.p50, text=_time),
        Column("p90", lambda one: one.finish.p90, text=_time, gives_way=2),
        Column("in time", lambda one: probability(one.finish), gives_way=1),
        Column("memory", memory_told),
        Column("fits", lambda one: one.verdict),
        Column("evidence", lambda one: one.evidence, gives_way=4),
    ]
    has_window = report.asked.window_s is not None
    return View(report.runs[:MAX_ROWS], [one for one in columns if has_window or one.heading != "in time"])


def _time(seconds: float) -> str:
    return format_duration(seconds) if math.isfinite(seconds) else "never"


def _likely(finish: Finish) -> str | None:
    return f"{_time(finish.p10)} to {_time(finish.p90)}" if math.isfinite(finish.p50) else None


def _signed(text: str, value: float) -> str:
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{text}"
