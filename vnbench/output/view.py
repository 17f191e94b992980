"""A table declared once: rows, and what each column says of them, shown to people and to programs."""

from __future__ import annotations

import csv
import functools
import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TextIO, TypeVar

from markupsafe import Markup

from vnbench.output.words.numbers import MISSING

Row = TypeVar("Row")

HALF_WIDTH = "_half_width"
"""Follows the name of a figure in that of its 95 % half-width."""

ACTIVE = re.compile(r"([\\`*_\[\]#|~@])")
"""Characters that could end a cell of Markdown, format it, link to something, or call somebody by name."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """What a column says of each row."""

    heading: str
    """What people read above it, with a line break where a narrow column breaks it."""
    value: Callable[[Row], Any]
    """Reads it from a row; None where it is not known."""
    key: str = ""
    """Its name for programs, which ends in the unit of the values; empty where the heading does as well."""
    unit: str = ""
    """In which people are told it."""
    text: Callable[[Any], str] = str
    """Tells people a value that is known; MISSING stands for one that is not."""
    align: Literal["left", "right"] = "right"
    """Where it stands under its heading."""
    is_folded: bool = False
    """Whether it goes on in a second line where the table is too narrow."""
    gives_way: int = 0
    """Where there is no room for all columns, those of higher numbers are left out before others, and those
    of one number together; 0 stays."""
    style: Callable[[Any], str] | None = None
    """Returns rich's style of a value; one that is bold is bold in Markdown too."""
    type: type = float
    """Of the values for programs."""
    has_half_width: bool = False
    """Whether values have a 95 % half-width (``value``, ``half_width``), which is a column of its own for programs."""

    @property
    def header(self) -> str:
        """The heading with its unit, for a narrow column."""
        return "\n".join(filter(None, (self.heading, self.unit)))

    @property
    def title(self) -> str:
        """The same in one line."""
        return ", ".join(filter(None, (self.heading.replace("\n", " "), self.unit)))

    @property
    def name(self) -> str:
        """What programs call it."""
        return self.key or re.sub(r"\W+", "_", self.title).strip("_").lower()

    def cell(self, row: Row) -> str:
        """Return what people are told of a row."""
        value = self.value(row)
        return MISSING if value is None else self.text(value)

    def style_of(self, row: Row) -> str:
        """Return rich's style of a row's cell; empty for none."""
        return "" if self.style is None else self.style(self.value(row))

    def plain(self) -> Iterator[Column[Row]]:
        """Yield the columns of plain values that programs get of it."""
        if not self.has_half_width:
            yield self
            return
        yield replace(self, value=lambda row: getattr(self.value(row), "value", None), has_half_width=False)
        yield replace(
            self,
            key=self.name + HALF_WIDTH,
            value=lambda row: getattr(self.value(row), "half_width", None),
            has_half_width=False,
        )


@dataclass(frozen=True, slots=True)
class View(Generic[Row]):
    """A table."""

    rows: Sequence[Row]
    """What its lines tell of."""
    columns: Sequence[Column[Row]]
    """What they tell, from left to right."""

    def __iter__(self) -> Iterator[list[str]]:
        """Yield the cells of each row, for people."""
        for row in self.rows:
            yield [column.cell(row) for column in self.columns]

    def told(self) -> View[Row]:
        """Return it without the columns that say of no row more than that nothing is known."""
        columns = [column for column in self.columns if any(column.cell(row) != MISSING for row in self.rows)]
        return replace(self, columns=columns)

    def markdown(self) -> str:
        """Return it as Markdown; nothing in a cell is taken for markup."""
        lines = [
            [escape(column.title) for column in self.columns],
            ["---:" if column.align == "right" else "---" for column in self.columns],
        ]
        for row in self.rows:
            cells = [(escape(column.cell(row)), "bold" in column.style_of(row)) for column in self.columns]
            lines.append([f"**{cell}**" if is_bold else cell for cell, is_bold in cells])
        head, rule, *body = (" | ".join(line) for line in lines)
        return "\n".join([f"| {head} |", f"|{rule.replace(' ', '')}|", *(f"| {line} |" for line in body)])

    def html(self) -> Markup:
        """Return it as a table of HTML; nothing in a cell is taken for markup."""
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(column.title) for column in self.columns)
        body = (Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells) for cells in self)
        lines = Markup("\n").join(Markup("<tr>{}</tr>").format(cells) for cells in body)
        page = "<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>"
        return Markup(page).format(head, lines)

    def plain(self) -> View[Row]:
        """Return it for programs: one plain value in each cell."""
        return replace(self, columns=[one for column in self.columns for one in column.plain()])

    def records(self) -> list[dict[str, Any]]:
        """Return a dictionary of JSON values per row, by the names of the columns."""
        columns = self.plain().columns
        return [{column.name: column.value(row) for column in columns} for row in self.rows]

    def json(self) -> str:
        """Return it as a list of JSON objects, one a line."""
        lines = ",\n".join(json.dumps(record, allow_nan=False) for record in self.records())
        return f"[\n{lines}\n]\n" if lines else "[]\n"

    def csv(self, file: TextIO) -> None:
        """Write it as CSV (RFC 4180 but for its line ends); what is not known is empty."""
        columns = self.plain().columns
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.name for column in columns)
        writer.writerows([column.value(row) for column in columns] for row in self.rows)


@functools.lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """Return text as Markdown shows it as it is: one line, no markup, no HTML."""
    return ACTIVE.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
