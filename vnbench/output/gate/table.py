"""A comparison as a table for the terminal."""

from __future__ import annotations

import textwrap

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import ALL_ROWS, Row, Verdict
from vnbench.output.gate.words import (
    HOW_IT_DECIDES,
    advice,
    blunt_lines,
    change,
    detects,
    figure,
    headline,
    interval,
    names_of,
)

MAX_SAME_ROWS = 30
"""Rows that are the same are listed up to this many rows in all; beyond, only what is not the same is."""

STYLES: dict[Verdict, str] = {"worse": "bold red", "missing": "bold red", "ambiguous": "yellow", "better": "green"}

TEXT_COLUMNS = 100
"""Width of the lines under the table."""


def gate_table(comparison: Comparison, *, about: tuple[str, str]) -> RenderableType:
    """Return the table of a comparison; ``about`` tells where baseline and candidate come from."""
    names = names_of(comparison.rows)
    shown = shown_rows(comparison)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("configuration", overflow="fold", min_width=16)
    table.add_column("metric", no_wrap=True)
    for header in ("baseline", "candidate", "change", "interval", "detects"):
        table.add_column(header, justify="right", no_wrap=header != "interval")
    table.add_column("verdict", no_wrap=True)
    for row in shown:
        table.add_row(
            Text(names[row.spec_id], overflow="fold"),
            row.metric,
            figure(row.baseline, metric=row.metric),
            figure(row.candidate, metric=row.metric),
            change(row.ratio),
            interval(row),
            detects(row),
            Text(row.verdict, style=STYLES.get(row.verdict, "")),
        )
    left_out = len(comparison.rows) - len(shown)
    lines = [f"{left_out:,} rows that are the same are not shown."] if left_out else []
    lines += [
        f"{names[row.spec_id]}, {row.metric}: {row.reason}" for row in shown if row.verdict in ("worse", "missing")
    ]
    lines += blunt_lines(comparison.rows)
    lines += [f"baseline: {about[0]}", f"candidate: {about[1]}"]
    wrapped = [part for line in (*lines, HOW_IT_DECIDES) for part in textwrap.wrap(line, TEXT_COLUMNS)]
    last = [*advice(comparison), headline(comparison)]
    parts: list[RenderableType] = [table, Text(), Text("\n".join(wrapped)), Text()] if comparison.rows else []
    return Group(*parts, Text("\n".join(last)))


def shown_rows(comparison: Comparison) -> tuple[Row, ...]:
    """Return the rows worth a line: all where they are few, and otherwise the mean and those that are not the same."""
    if len(comparison.rows) <= MAX_SAME_ROWS:
        return comparison.rows
    return tuple(row for row in comparison.rows if row.verdict != "same" or row.spec_id == ALL_ROWS)
