"""What of several runs gets done on several cards, as a table: when each begins and ends, and on which card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vnbench.analysis.planning.schedule import Placed, Schedule
from vnbench.output.fitted_table import FittedTable
from vnbench.output.view import Column, View
from vnbench.units import format_duration


class Line(NamedTuple):
    """One run."""

    name: str
    """What it is called."""
    placed: Placed | None
    """Where and when it runs; None where there is no room for it."""


def team_table(schedule: Schedule, configurations: Mapping[str, str], *, window_s: float | None) -> FittedTable[Line]:
    """Return the table; ``configurations`` tells by the name of each run which configuration it has."""

    def late(line: Line) -> str | None:
        if line.placed is None:
            return None
        is_late = window_s is not None and line.placed.late_end_s > window_s
        return f"{format_duration(line.placed.late_end_s)}{' !' if is_late else ''}"

    rows = [
        *(Line(one.name, one) for one in schedule.placed),
        *(Line(name, None) for name in schedule.left_out),
    ]
    columns: tuple[Column[Line], ...] = (
        Column("run", lambda line: line.name, align="left", is_folded=True),
        Column("card", lambda line: line.placed and line.placed.card + 1),
        Column("starts", lambda line: line.placed and line.placed.start_s, text=_start, gives_way=1),
        Column("ends", lambda line: format_duration(line.placed.end_s) if line.placed else "no room"),
        Column("9 of 10\nend by", late),
        Column("with", lambda line: configurations[line.name], align="left", is_folded=True),
    )
    return FittedTable(view=View(rows, columns))


def _start(seconds: float) -> str:
    return format_duration(seconds) if seconds else "now"
