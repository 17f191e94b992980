"""A view on a terminal of any width: no word and no number is cut; what finds no room is left out, and said to be."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from vnbench.output.console import TABLE_WIDTH
from vnbench.output.view import Column, Row, View
from vnbench.output.words.numbers import MISSING

GAPS = (2, 1)
"""Spaces between columns, where there is room for them and where there is not."""

MOST_LINES = 4
"""About as many lines as the longest cell of a column is folded into at most: taller rows are hard to read."""

WITHIN = re.compile(r"(?<=/)|(?<=::)|(?=\[)")
"""Where a word may be broken: after a folder, a file of tests, or before a parameter."""

INDENT = "    "
"""Begins each further line of a row that is told as a sentence."""

TEXT_COLUMNS = TABLE_WIDTH
"""Most characters of the lines under a table: as many as of a table where no width is known; longer ones are hard to
read."""


def paragraphs(lines: Sequence[str]) -> RenderableType:
    """Return lines that are wrapped between words."""
    return Constrain(Text("\n".join(lines)), TEXT_COLUMNS)


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedTable(Generic[Row]):
    """A table as wide as the terminal allows.

    Where it is too wide, words fold first, then columns give way, the least needed before others. Where even those that
    must stay have no room beside each other, each row is a sentence instead.
    """

    view: View[Row]
    """What it tells."""
    titles: Mapping[int, str] = field(default_factory=dict)
    """Lines above the rows of these numbers, which begin a part; all parts have one heading."""
    lines_after: Collection[int] = ()
    """Numbers of the rows that have a line below them."""
    elsewhere: str = "--json"
    """What tells all of it at any width, beside a wider terminal; empty for nothing."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        drawn = [_Drawn(column, [column.cell(row) for row in self.view.rows]) for column in self.view.columns]
        kept = _with_room(drawn, options.max_width)
        for is_folded, gap in itertools.product((False, True), GAPS):
            widths = _widths(kept, options.max_width - gap * (len(kept) - 1), is_folded=is_folded)
            if widths is not None:
                yield from self._parts(kept, widths, gap=gap)
                yield from self._left_out(drawn, kept)
                return
        yield from self._sentences(console, options.max_width)

    def _parts(self, kept: Sequence[_Drawn[Row]], widths: Sequence[int], *, gap: int) -> Iterator[RenderableType]:
        starts = sorted({0, *self.titles})
        for start, end in zip(starts, [*starts[1:], len(self.view.rows)], strict=True):
            if start in self.titles:
                yield Text(f"{'' if start == 0 else chr(10)}{self.titles[start]}")
            table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
            table.show_header = start == 0
            for one, width in zip(kept, widths, strict=True):
                table.add_column(one.column.header, justify=one.column.align, width=width)
            for number in range(start, end):
                row = self.view.rows[number]
                cells = (
                    Text(_folded(one.cells[number], width), style=one.column.style_of(row))
                    for one, width in zip(kept, widths, strict=True)
                )
                table.add_row(*cells, end_section=number in self.lines_after)
            yield table

    def _left_out(self, drawn: Sequence[_Drawn[Row]], kept: Sequence[_Drawn[Row]]) -> Iterator[RenderableType]:
        levels = {one.column.gives_way for one in kept}
        gone = [
            f"{_in_one_line(one.column)} {one.column.unit}".strip()
            for one in drawn
            if one.column.gives_way not in levels
        ]
        if gone:
            needed = sum(one.least for one in drawn) + GAPS[-1] * (len(drawn) - 1)
            elsewhere = f", or {self.elsewhere}" if self.elsewhere else ""
            whole = f"The whole table takes {needed} columns (COLUMNS={needed}){elsewhere}."
            yield Text(f"No room for: {', '.join(gone)}. {whole}")

    def _sentences(self, console: Console, width: int) -> Iterator[RenderableType]:
        room = max(width - len(INDENT), len(INDENT))
        for number, row in enumerate(self.view.rows):
            if number in self.titles:
                yield Text(f"{'' if number == 0 else chr(10)}{self.titles[number]}")
            lines = [Text()]
            for column in self.view.columns:
                if (cell := column.cell(row)) not in ("", MISSING):
                    heading, figure = _in_one_line(column), f"{cell} {column.unit}".strip()
                    told = Text.assemble(f"{heading} ", (figure, column.style_of(row)))
                    if told.cell_len > room:
                        told = Text(_folded(told.plain, room))
                    # A figure stays whole: lines end between what columns say.
                    has_room = lines[-1].cell_len + len(", ,") + told.cell_len <= room
                    if lines[-1]:
                        lines[-1].append(", " if has_room else ",")
                    if has_room:
                        lines[-1].append_text(told)
                    else:
                        lines.append(told)
            parts = (part for line in lines if line for part in line.wrap(console, room))
            for place, part in enumerate(parts):
                yield Text(INDENT if place else "") + part


@dataclass(frozen=True, slots=True)
class _Drawn(Generic[Row]):
    """A column with what it says of each row."""

    column: Column[Row]
    cells: Sequence[str]

    @property
    def most(self) -> int:
        """Characters that it takes without folding."""
        return max(map(cell_len, [*self.column.header.split("\n"), *self.cells]))

    @property
    def least(self) -> int:
        """Characters with which no word of it is cut, nor a number."""
        if not self.column.is_folded:
            return self.most
        words = [*self.column.header.split("\n"), *(part for cell in self.cells for part in _parts_of(cell))]
        return max(self.most // MOST_LINES, *map(cell_len, words))


def _with_room(drawn: Sequence[_Drawn[Row]], width: int) -> Sequence[_Drawn[Row]]:
    """Return the columns that stay whatever the room, and those others that find some, the most needed first."""
    levels = {0}
    for level in sorted({one.column.gives_way for one in drawn}):
        more = [one for one in drawn if one.column.gives_way in levels | {level}]
        if _widths(more, width - GAPS[-1] * (len(more) - 1), is_folded=True) is not None:
            levels.add(level)
    return [one for one in drawn if one.column.gives_way in levels]


def _widths(kept: Sequence[_Drawn[Row]], room: int, *, is_folded: bool) -> list[int] | None:
    """Return how wide each column is so that all of them fill the room at most; None where they do not fit."""
    widths = [one.least if is_folded else one.most for one in kept]
    spare = room - sum(widths)
    if spare < 0:
        return None
    # Those that lack least come first, so that few of them fold.
    for place in sorted(range(len(kept)), key=lambda place: kept[place].most - widths[place]):
        more = min(spare, kept[place].most - widths[place])
        widths[place] += more
        spare -= more
    return widths


def _parts_of(text: str) -> list[str]:
    """Return the words of a text, and of a path or of the name of a test its parts."""
    return [part for word in text.split() for part in WITHIN.split(word)]


def _folded(text: str, width: int) -> str:
    """Return a text in lines of a width, which end after words, or after parts of a path."""
    if cell_len(text) <= width:
        return text
    lines = [text[: len(text) - len(text.lstrip())]]
    for word in text.split():
        for number, part in enumerate(WITHIN.split(word)):
            gap = " " if number == 0 and lines[-1].strip() else ""
            if lines[-1].strip() and cell_len(lines[-1] + gap + part) > width:
                lines.append(part)
            else:
                lines[-1] += gap + part
    return "\n".join(lines)


def _in_one_line(column: Column[Row]) -> str:
    return column.heading.replace("\n", " ")
