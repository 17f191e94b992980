"""CSV as spreadsheets and people write it: commas, semicolons or tabs, names in capitals or with a unit, empty rows."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from vnbench.errors import InputError
from vnbench.texts import decoded
from vnbench.units import count

DELIMITERS = ",;\t"

DECLARED = re.compile(r"sep=(.)\r?\n")
"""First line of a file in which Excel says how it separates."""

UNIT = re.compile(r"[\s_(\[]+(px|pixels?)[)\]]?$")
"""Ends the name of a column whose numbers are pixels."""

SYNONYMS = {"width": ("w", "imagewidth"), "height": ("h", "imageheight")}
"""Names that stand for others where these are missing, without what separates their words."""

MAX_SHOWN_CHARACTERS = 40
"""A longer value is cut in messages: one that long is the wrong column or the wrong file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvTable:
    """The rows of a CSV file below its header."""

    path: Path
    """The file."""
    header: tuple[str, ...]
    """Names of the columns, in lower case and without units."""
    lines: tuple[int, ...]
    """Line of the file at which each row ends, from 1."""
    rows: tuple[tuple[str, ...], ...]
    """Cells of each row, stripped; one may have fewer than there are columns."""

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, empty where a row is too short.

        Raises:
            InputError: there is no such column, or more than one, or a row has more values than there are columns.
        """
        places = [place for place, other in enumerate(self.header) if other == name] or [
            place for place, other in enumerate(self.header) if re.sub(r"[\s_-]", "", other) in SYNONYMS.get(name, ())
        ]
        if len(places) != 1:
            raise InputError(
                f"{self.path}, line 1:",
                shown(",".join(self.header)),
                allowed=f"exactly one column {name} is needed",
                remedy="begin the file with a header that names it, as width,height",
            )
        self._refuse_long_rows()
        return [row[places[0]] if places[0] < len(row) else "" for row in self.rows]

    def _refuse_long_rows(self) -> None:
        for line, row in zip(self.lines, self.rows, strict=True):
            if any(row[len(self.header) :]):
                # A thousands separator, as in 12,800: read by position it would pass for a width of 12.
                raise InputError(
                    f"{self.path}, line {line}:",
                    shown(",".join(row)),
                    allowed=f"{count(len(row), 'value')} below {count(len(self.header), 'column')}",
                    remedy="write plain numbers, without thousands separators",
                )


def read_csv(path: Path) -> CsvTable:
    """Return the rows of a CSV file; those of empty cells alone are left out.

    Raises:
        InputError: it cannot be read, or is no CSV text.
    """
    try:
        # By its mark UTF-16 is told from UTF-8; spreadsheets write either.
        text = decoded(path.read_bytes())
        header, *rows = _rows(text) or [(1, ())]
    except OSError as error:
        raise InputError(
            str(path),
            allowed=f"the file cannot be read ({error.strerror})",
            remedy="name a CSV file with the header width,height",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            str(path),
            allowed=f"the file is not CSV text in UTF-8 ({error})",
            remedy="save it as CSV with the header width,height",
        ) from error
    names = tuple(UNIT.sub("", name.casefold()) for name in header[1])
    filled = [(line, cells) for line, cells in rows if any(cells)]
    return CsvTable(
        path=path,
        header=names,
        lines=tuple(line for line, _ in filled),
        rows=tuple(cells for _, cells in filled),
    )


def shown(text: str) -> str:
    """Return a text as messages quote it."""
    return repr(text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "...")


def _rows(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Return the cells of each row with the line of the file at which it ends."""
    declared = DECLARED.match(text)
    body = text[declared.end() :] if declared else text
    first = body.partition("\n")[0]
    delimiter = declared[1] if declared else max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)
    return [(reader.line_num + bool(declared), tuple(cell.strip() for cell in row)) for row in reader]
