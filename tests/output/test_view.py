from __future__ import annotations

import csv
import io
import json
from typing import NamedTuple

from rich.console import Console

from vnbench.output.fitted_table import FittedTable
from vnbench.output.view import Column, View


class Time(NamedTuple):
    value: float
    half_width: float | None


class Trial(NamedTuple):
    name: str
    time: Time | None
    verdict: str = "same"


COLUMNS: tuple[Column[Trial], ...] = (
    Column("name", lambda trial: trial.name, align="left", type=str),
    Column(
        "step\ntime",
        lambda trial: trial.time,
        key="step_time_s",
        unit="ms",
        text=lambda time: f"{1e3 * time.value:.0f} ± {1e3 * time.half_width:.0f}",
        has_half_width=True,
    ),
    Column("spare", lambda _: None),
    Column("verdict", lambda trial: trial.verdict, style=lambda one: "bold" if one == "worse" else ""),
)
VIEW = View([Trial("a|b", Time(0.025, 0.002)), Trial("<c>", None, "worse")], COLUMNS)


def test_people_are_told_headings_with_units_and_what_is_not_known() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(FittedTable(view=VIEW))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert lines[:3] == [["step"], ["time"], ["name", "ms", "spare", "verdict"]]
    assert lines[4:] == [["a|b", "25", "±", "2", "-", "same"], ["<c>", "-", "-", "worse"]]


def test_a_column_of_which_nothing_is_known_is_left_out_when_asked() -> None:
    assert [column.name for column in VIEW.told().columns] == ["name", "step_time_s", "verdict"]


def test_markdown_takes_nothing_for_markup_and_sets_bold_what_is_bold() -> None:
    assert VIEW.told().markdown().splitlines() == [
        "| name | step time, ms | verdict |",
        "|---|---:|---:|",
        r"| a\|b | 25 ± 2 | same |",
        "| &lt;c&gt; | - | **worse** |",
    ]


def test_html_takes_nothing_for_markup() -> None:
    text = VIEW.told().html()
    assert '<th scope="col">step time, ms</th>' in text
    assert "<tr><td>&lt;c&gt;</td><td>-</td><td>worse</td></tr>" in text


def test_programs_get_plain_values_in_base_units_with_half_widths_of_their_own() -> None:
    stream = io.StringIO()
    VIEW.csv(stream)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert rows[0] == {
        "name": "a|b",
        "step_time_s": "0.025",
        "step_time_s_half_width": "0.002",
        "spare": "",
        "verdict": "same",
    }
    assert rows[1]["step_time_s"] == rows[1]["step_time_s_half_width"] == ""
    assert json.loads(VIEW.json())[1]["step_time_s_half_width"] is None


def test_a_table_without_rows_is_a_table() -> None:
    empty = View([], COLUMNS)
    assert json.loads(empty.json()) == []
    assert len(empty.markdown().splitlines()) == 2
