"""The manifest of a corpus: the image file, mask file, size and split of each example."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Literal, get_args

from vnbench.batching.csv_table import read_csv
from vnbench.batching.sizes import sizes_of
from vnbench.errors import InputError
from vnbench.images.known_files import kind_of_no_file

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)

COLUMNS = ("index", "split", "width", "height", "image", "mask")


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRow:
    """One example of a corpus."""

    index: int
    """Position in the corpus, counted from 0 without gaps."""
    split: Split
    """Whether the example is for training or for validation."""
    width: int
    """Pixels along the swept axis."""
    height: int
    """Pixels along the other axis."""
    image: str
    """File of the image, relative to the manifest's directory."""
    mask: str
    """File of the mask, relative to the manifest's directory."""


def format_manifest(rows: Iterable[ManifestRow]) -> str:
    """Return the CSV text of a manifest, header line first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return text.getvalue()


def read_manifest(path: Path) -> tuple[ManifestRow, ...]:
    """Return the rows of a manifest file, in order. Columns may be in any order; further columns are ignored.

    Raises:
        InputError: the file is missing or is not CSV text, a column is missing, there are no rows or none to train on,
            a row is wrong, or a file is named twice; the message names the file, its line (the header is 1) and the
            value.
    """
    if not path.is_file():
        kind = kind_of_no_file(path.stat()) if path.exists() else None
        raise InputError(
            str(path),
            allowed=f"is {kind}, not a manifest" if kind else "there is no such manifest",
            remedy="name the directory of a finished corpus, or write one with vnbench corpus",
        )
    table = read_csv(path)
    sizes_N2 = sizes_of(table)  # checks the columns width and height
    missing = [column for column in COLUMNS if column not in (*table.header, "width", "height")]
    if missing:
        raise InputError(
            f"{path}, line {table.header_line}:",
            ",".join(table.header),
            allowed=f"column {', '.join(missing)} is missing",
            remedy=f"name the columns {','.join(COLUMNS)}",
        )
    cells_of_rows = zip(*(table.column(column) for column in COLUMNS), strict=True)
    rows = [
        _parse_row(
            dict(zip(COLUMNS, cells, strict=True)),
            index=index,
            height=height,
            width=width,
            directory=path.parent,
            where=f"{path}, line {line}:",
        )
        for index, (cells, line, (height, width)) in enumerate(
            zip(cells_of_rows, table.lines, sizes_N2.tolist(), strict=True)
        )
    ]
    _refuse_repeated(rows, table.lines, path=path)
    if not any(row.split == "train" for row in rows):
        raise InputError(
            str(path),
            allowed=f"no row of {len(rows)} has the split train",
            remedy="mark the rows to train on",
        )
    return tuple(rows)


def _refuse_repeated(rows: Sequence[ManifestRow], lines: Sequence[int], *, path: Path) -> None:
    """Refuse a file that is named twice: it would count twice, or be in both splits.

    Raises:
        InputError: a file is named twice.
    """
    first: dict[str, tuple[int, Split]] = {}
    for row, line in zip(rows, lines, strict=True):
        for column, file in (("image", row.image), ("mask", row.mask)):
            name = posixpath.normpath(file)
            if name in first:
                before, split = first[name]
                other = "it is the image of this row" if before == line else f"line {before} names it too"
                splits = "" if split == row.split else f", for {split} and not for {row.split}"
                raise InputError(
                    f"{path}, line {line}:",
                    f"{column}={file!r}",
                    allowed=other + splits,
                    remedy="name each file once, in one row",
                )
            first[name] = line, row.split


def _parse_row(
    values: Mapping[str, str], *, index: int, height: int, width: int, directory: Path, where: str
) -> ManifestRow:
    split = next((split for split in SPLITS if split == values["split"]), None)
    if split is None:
        raise InputError(
            where,
            f"split={values['split']!r}",
            allowed=f"a split is {' or '.join(SPLITS)}",
            remedy="correct the split",
        )
    if values["index"] != str(index):
        raise InputError(
            where,
            f"index={values['index']!r}",
            allowed=f"rows are numbered from 0 in order, so this one is {index}",
            remedy="renumber the rows",
        )
    files = [_with_slashes(values[column], directory) for column in ("image", "mask")]
    for column, file in zip(("image", "mask"), files, strict=True):
        if not file or PurePath(file).is_absolute() or PureWindowsPath(values[column]).drive:
            raise InputError(
                where,
                f"{column}={values[column]!r}",
                allowed="a file is named relative to the manifest's directory",
                remedy="write the path from there",
            )
    return ManifestRow(index=index, split=split, width=width, height=height, image=files[0], mask=files[1])


def _with_slashes(name: str, directory: Path) -> str:
    """Return a file's path with ``/`` as separator, unless a file whose name has a backslash exists."""
    return name.replace("\\", "/") if "\\" in name and not (directory / name).exists() else name
