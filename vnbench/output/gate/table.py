"""A comparison as a table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
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
from vnbench.output.view import Column, View

MAX_SAME_ROWS = 30
"""Rows that are the same are listed up to this many rows in all; beyond, only what is not the same is."""

STYLES: dict[Verdict, str] = {"worse": "bold red", "missing": "bold red", "ambiguous": "yellow", "better": "green"}

TEXT_COLUMNS = 100
"""Width of the lines under the table."""


def gate_table(comparison: Comparison, *, about: tuple[str, str]) -> RenderableType:
    """Return the table of a comparison; ``about`` tells where baseline and candidate come from."""
    names = names_of(comparison.rows)
    shown = shown_rows(comparison)
    table = gate_view(shown, names).table()
    table.columns[0].min_width = 16
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


def gate_view(rows: Sequence[Row], names: Mapping[str, str]) -> View[Row]:
    """Return some rows of a comparison; ``names`` tells what their configurations are called."""
    return View(
        rows,
        (
            Column("configuration", lambda row: names[row.spec_id], align="left", is_folded=True),
            Column("metric", lambda row: row.metric, align="left"),
            Column("baseline", lambda row: figure(row.baseline, metric=row.metric)),
            Column("candidate", lambda row: figure(row.candidate, metric=row.metric)),
            Column("change", lambda row: change(row.ratio)),
            Column("interval", interval, is_folded=True),
            Column("detects", detects),
            Column("verdict", lambda row: row.verdict, align="left", style=lambda verdict: STYLES.get(verdict, "")),
        ),
    )


def shown_rows(comparison: Comparison) -> tuple[Row, ...]:
    """Return the rows worth a line: all where they are few, and otherwise the mean and those that are not the same."""
    if len(comparison.rows) <= MAX_SAME_ROWS:
        return comparison.rows
    return tuple(row for row in comparison.rows if row.verdict != "same" or row.spec_id == ALL_ROWS)
