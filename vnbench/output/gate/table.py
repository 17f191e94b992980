"""A comparison as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import ALL_ROWS, Row, Verdict
from vnbench.output.fitted_table import FittedTable, paragraphs
from vnbench.output.gate.words import (
    advice,
    blunt_lines,
    change,
    detects,
    figure,
    headline,
    how_it_decides,
    interval,
    names_of,
    sweep_line,
)
from vnbench.output.view import Column, View
from vnbench.units import count

MAX_SAME_ROWS = 30
"""Rows that are the same are listed up to this many rows in all; beyond, only what is not the same is."""

STYLES: dict[Verdict, str] = {"worse": "bold red", "missing": "bold red", "ambiguous": "yellow", "better": "green"}


def gate_table(comparison: Comparison, *, about: tuple[str, str]) -> RenderableType:
    """Return the table of a comparison; ``about`` tells where baseline and candidate come from."""
    names = names_of(comparison.rows)
    shown = shown_rows(comparison)
    left_out = len(comparison.rows) - len(shown)
    lines = [f"Not shown, because nothing changed: {count(left_out, 'row')}."] if left_out else []
    lines += [
        f"{names[row.spec_id]}, {row.metric}: {row.reason}" for row in shown if row.verdict in ("worse", "missing")
    ]
    lines += blunt_lines(comparison.rows, names)
    lines += filter(None, [sweep_line(comparison)])
    lines += [f"baseline: {about[0]}", f"candidate: {about[1]}"]
    last = Text("\n".join([*advice(comparison), headline(comparison)]))
    if not comparison.rows:
        return last
    table: list[RenderableType] = [FittedTable(view=gate_view(shown, names)), Text()] if shown else []
    return Group(*table, paragraphs([*lines, how_it_decides(comparison)]), Text(), last)


def gate_view(rows: Sequence[Row], names: Mapping[str, str]) -> View[Row]:
    """Return some rows of a comparison; ``names`` tells what their configurations are called."""
    return View(
        rows,
        (
            Column("verdict", lambda row: row.verdict, align="left", style=lambda verdict: STYLES.get(verdict, "")),
            Column("configuration", lambda row: names[row.spec_id], align="left", is_folded=True),
            Column("metric", lambda row: row.metric, align="left"),
            Column("baseline", lambda row: figure(row.baseline, metric=row.metric), gives_way=3),
            Column("candidate", lambda row: figure(row.candidate, metric=row.metric), gives_way=1),
            Column("change", lambda row: change(row.ratio)),
            Column("interval", interval, gives_way=2),
            Column("detects", detects, gives_way=4),
        ),
    )


def shown_rows(comparison: Comparison) -> tuple[Row, ...]:
    """Return the rows worth a line: all where they are few, and otherwise the mean and those that are not the same."""
    if len(comparison.rows) <= MAX_SAME_ROWS:
        return comparison.rows
    return tuple(row for row in comparison.rows if row.verdict != "same" or row.spec_id == ALL_ROWS)
