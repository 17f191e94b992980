"""Read CSV files of spreadsheets and people: any delimiter, column names in capitals or with units, empty rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from vnbench.errors import InputError
from vnbench.texts import GZIP, UNREAD, UTF_16, decoded, unpacked
from vnbench.units import count

DELIMITERS = ",;\t"

DECLARED = re.compile(r'\s*"?sep=(.)"?[,;\t ]*\r?\n', re.IGNORECASE)
"""First line in which Excel declares the delimiter; it may be quoted like a cell."""

EMPTY_LINES = re.compile(r'(?:(?:[,;\t ]|"")*\r?\n)+')
"""Lines that hold only empty cells."""

UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)

WORKBOOK_PARTS = (b"[Content_Types].xml", b"mimetypeapplication/vnd.oasis")
"""Names of files in the zip archive of a spreadsheet of Excel and of LibreOffice."""

NO_TEXT = {
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"II*\0": "an image",
    b"II+\0": "an image",
    b"MM\0*": "an image",
    b"GIF8": "an image",
    b"BM": "an image",
    b"RIFF": "an image",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"PAR1": "a Parquet file",
}
"""First bytes of binary files; checked only if a file holds zero bytes, because text may begin with BM too."""

REMEDIES = {"an image": "name the folder of the images, or a CSV file with the header width,height"}

UNIT = re.compile(r"[\s_(\[]+(px|pixels?)[)\]]?$")
"""Unit at the end of a column name; pixels are the only unit."""

SYNONYMS = {"width": ("w", "imagewidth"), "height": ("h", "imageheight")}
"""Other names for missing columns, written without spaces, hyphens and underscores."""

MAX_SHOWN_CHARACTERS = 40
"""Messages cut longer values, which come from a wrong column or file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvTable:
    """The rows of a CSV file below its header."""

    path: Path
    """The file."""
    header: tuple[str, ...]
    """Column names, in lower case and without units."""
    header_line: int
    """Line number of the header, from 1."""
    lines: tuple[int, ...]
    """Number of the line in which each row ends, from 1."""
    rows: tuple[tuple[str, ...], ...]
    """Cells of each row, stripped; a row may have fewer cells than the header."""

    def column(self, name: str) -> list[str]:
        """Return the cells of a column; an empty string if a row is too short.

        Raises:
            InputError: no column or several columns have this name, or a row has more values than the header.
        """
        places = [place for place, other in enumerate(self.header) if other == name] or [
            place for place, other in enumerate(self.header) if re.sub(r"[\s_-]", "", other) in SYNONYMS.get(name, ())
        ]
        if len(places) != 1:
            is_of_numbers = all(re.fullmatch(r"[\d.]+", cell) for cell in self.header)
            raise InputError(
                f"{self.path}, line {self.header_line}:",
                shown(",".join(self.header)),
                allowed="the header line is missing" if is_of_numbers else f"exactly one column {name} is needed",
                remedy="begin the file with a header such as width,height",
            )
        self._refuse_long_rows()
        return [row[places[0]] if places[0] < len(row) else "" for row in self.rows]

    def _refuse_long_rows(self) -> None:
        for line, row in zip(self.lines, self.rows, strict=True):
            if any(row[len(self.header) :]):
                # For example a thousands separator: 12,800 would be read as a width of 12.
                raise InputError(
                    f"{self.path}, line {line}:",
                    shown(",".join(row)),
                    allowed=f"{count(len(row), 'value')} in a table of {count(len(self.header), 'column')}",
                    remedy="write plain numbers, without thousands separators",
                )


def read_csv(path: Path) -> CsvTable:
    """Return the rows of a CSV file without the empty ones.

    Raises:
        InputError: the file cannot be read, is empty, or is not CSV text.
    """
    try:
        content = unpacked(_told_apart(path.read_bytes(), path), path)
        # Spreadsheets write UTF-8 or UTF-16; UTF-16 begins with a byte order mark.
        text = decoded(_told_apart(content, path))
        filled = [(line, cells) for line, cells in _rows(text) if any(cells)]
    except OSError as error:
        raise InputError(
            str(path),
            allowed=f"the file cannot be read ({error.strerror})",
            remedy="name a CSV file with the header width,height",
        ) from error
    except UnicodeDecodeError as error:
        byte, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}:",
            f"byte {byte:#04x}",
            allowed="the file is not UTF-8 text; it may be Latin-1 or Windows-1252",
            remedy="save it as CSV in UTF-8",
        ) from error
    except csv.Error as error:
        raise InputError(
            str(path),
            allowed=f"the file is not CSV text ({error})",
            remedy="save it as CSV with the header width,height",
        ) from error
    if not filled:
        raise InputError(
            str(path), allowed="the file is empty", remedy="write a header width,height, and rows below it"
        )
    (header_line, header), *rows = filled
    return CsvTable(
        path=path,
        header=tuple(UNIT.sub("", name.casefold()) for name in header),
        header_line=header_line,
        lines=tuple(line for line, _ in rows),
        rows=tuple(cells for _, cells in rows),
    )


def _told_apart(content: bytes, path: Path) -> bytes:
    """Return the content of a file if it may be text, compressed or not.

    Raises:
        InputError: its bytes show that it is something else.
    """
    has_zeros, remedy = b"\0" in content, "save its table as CSV in UTF-8"
    if content.startswith(b"PK") and any(part in content for part in WORKBOOK_PARTS):
        problem = "is a spreadsheet, not CSV text"
    elif content.startswith(UTF_32):
        problem = "is text in UTF-32, which is not read"
    elif not has_zeros or content.startswith((*UTF_16, GZIP, *UNREAD)):
        return content
    else:
        kind = next((name for start, name in NO_TEXT.items() if content.startswith(start)), None)
        problem = f"is {kind}, not CSV text" if kind else "holds zero bytes, like UTF-16 without a byte order mark"
        remedy = REMEDIES.get(kind or "", remedy)
    raise InputError(str(path), allowed=problem, remedy=remedy)


def shown(text: str) -> str:
    """Return a text as messages quote it: in quotes, and cut after MAX_SHOWN_CHARACTERS."""
    return repr(text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "...")


def _rows(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Return (number of the last line, cells) of each row, from the first non-empty row on."""
    declared = DECLARED.match(text)
    start = declared.end() if declared else 0
    empty = EMPTY_LINES.match(text, start)
    start = empty.end() if empty else start
    body, skipped = text[start:], text.count("\n", 0, start)
    first = body.partition("\n")[0]
    delimiter = declared[1] if declared else max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)
    return [(reader.line_num + skipped, tuple(cell.strip() for cell in row)) for row in reader]
