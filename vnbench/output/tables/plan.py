"""A capacity plan for the terminal: the answer first, then what to change, then all configurations."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.planning.capacity import pareto_front
from vnbench.analysis.planning.spread import NUM_DRAWS
from vnbench.output.words.numbers import MISSING
from vnbench.output.words.plan import Report, answer_lines, lines_to_paste, named, probability, time_range
from vnbench.units import format_bytes, format_duration, gib

MAX_ROWS = 12
"""Configurations that are listed; the others are in the JSON."""

MAX_CHANGES = 10

TEXT_COLUMNS = 100
"""Width of the lines."""


def plan_table(report: Report) -> RenderableType:
    """Return the plan: what to do and when it ends, what each change buys, and the configurations."""
    wrapped = [part for line in answer_lines(report) for part in textwrap.wrap(line, TEXT_COLUMNS)]
    parts: list[RenderableType] = [Text("\n".join(wrapped)), Text(), Text("\n".join(lines_to_paste(report)))]
    if report.changes:
        parts += [Text(), Text(f"One change at a time from {named(report.current)}:"), _changes_table(report)]
    parts += [Text(), Text(_configurations_line(report)), _runs_table(report)]
    notes = [f"! {warning}" for warning in report.warnings]
    notes.append(
        f"{', '.join(report.origin.parts())}; equal epochs; finish times from {NUM_DRAWS:,} even draws, seed "
        f"{report.asked.seed}"
    )
    parts += [Text(), Text("\n".join(part for note in notes for part in textwrap.wrap(note, TEXT_COLUMNS)))]
    return Group(*parts)


def _changes_table(report: Report) -> Table:
    table = _bare_table(("change", "takes", "saves", "memory saved", "fits"))
    current = report.current
    for lever, one in report.changes[:MAX_CHANGES]:
        saved_s = current.finish.p50 - one.finish.p50
        saved = None if current.need_bytes is None or one.need_bytes is None else current.need_bytes - one.need_bytes
        cells = [
            f"{lever.replace('_', '-')} {current.levers[lever]} -> {one.levers[lever]}",
            time_range(one.finish),
            _signed(format_duration(abs(saved_s)), saved_s) if math.isfinite(saved_s) else MISSING,
            _memory_saved(saved, saved_s),
            one.verdict,
        ]
        table.add_row(*cells)
    return table


def _memory_saved(saved: float | None, saved_s: float) -> str:
    if saved is None:
        return MISSING
    text = _signed(format_bytes(abs(saved)), saved)
    if saved > 0 > saved_s and math.isfinite(saved_s):
        text += f" ({format_duration(-saved_s / gib(saved))} per GiB)"
    return text


def _configurations_line(report: Report) -> str:
    shown = min(MAX_ROWS, len(report.runs))
    return f"Configurations, the fastest {shown} of {len(report.runs)} (* none is both faster and smaller):"


def _runs_table(report: Report) -> Table:
    has_window = report.asked.window_s is not None
    table = _bare_table(
        ("configuration", "p10", "p50", "p90", *(["in time"] if has_window else []), "memory", "fits", "evidence")
    )
    front = pareto_front(report.runs)
    for one in report.runs[:MAX_ROWS]:
        times = [
            format_duration(value) if math.isfinite(value) else "never"
            for value in (one.finish.p10, one.finish.p50, one.finish.p90)
        ]
        table.add_row(
            Text(("* " if any(one is other for other in front) else "  ") + named(one), overflow="fold"),
            *times,
            *([probability(one.finish)] if has_window else []),
            MISSING if one.need_bytes is None else format_bytes(one.need_bytes),
            one.verdict,
            one.evidence,
        )
    return table


def _bare_table(headers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place, header in enumerate(headers):
        table.add_column(header, justify="left" if place == 0 else "right", overflow="fold", no_wrap=place > 0)
    return table


def _signed(text: str, value: float) -> str:
    return text if value >= 0 else f"-{text}"
