"""Get the sizes of the examples from a random distribution or a CSV file.

Sizes are an int64 array ``sizes_N2`` of shape (N, 2); its columns are height and width in pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vnbench.batching.csv_table import CsvTable, read_csv, shown
from vnbench.errors import InputError
from vnbench.records.spec.words import SIZE_LAWS, SizeLaw
from vnbench.units import MAX_SIDE_PIXELS, PixelRange

SizeArray: TypeAlias = npt.NDArray[np.int64]
"""Shape (N, 2): one row per example, columns height and width in pixels."""

MAX_SEED = 2**64 - 1
"""Largest seed: one of the two 64-bit words of a Philox key."""

_SIZES_STREAM = int.from_bytes(b"sizes")
"""Second word of the Philox key: makes sizes independent of other draws from the same seed."""

_COLUMNS = ("height", "width")
"""Columns of a size file, in the order of the array's columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeDistribution:
    """Independent random widths and heights over inclusive ranges of whole pixels."""

    widths: PixelRange
    """Smallest and largest width; both occur."""
    heights: PixelRange
    """Smallest and largest height; both occur."""
    law: SizeLaw = "uniform"
    """``uniform``: each length equally likely; ``log-uniform``: each octave equally likely."""

    def __post_init__(self) -> None:
        for name, lengths in (("widths", self.widths), ("heights", self.heights)):
            if not 1 <= lengths.start <= lengths.stop <= MAX_SIDE_PIXELS:
                raise ValueError(f"{name} {lengths}: must be ascending within 1:{MAX_SIDE_PIXELS}")
        if self.law not in SIZE_LAWS:
            raise ValueError(f"law {self.law!r}: must be one of {', '.join(SIZE_LAWS)}")


def draw_sizes(distribution: SizeDistribution, num_examples: int, *, seed: int) -> SizeArray:
    """Return random sizes, shape (num_examples, 2), columns height and width in pixels, int64.

    Size i depends only on (seed, i), so a longer draw starts with the shorter one. It comes from the doubles 2i
    (height) and 2i + 1 (width) of a Philox stream. ``uniform`` is uniform over the whole numbers of the range.
    ``log-uniform`` gives n the probability log((n + 1) / n) / log((stop + 1) / start): it is the floor of a continuous
    log-uniform variable on [start, stop + 1).

    Raises:
        ValueError: num_examples is below 1, or the seed is outside 0 to MAX_SEED.
    """
    if num_examples < 1:
        raise ValueError(f"num_examples {num_examples}: must be at least 1")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed}: must be within 0 to {MAX_SEED}")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, _SIZES_STREAM], dtype=np.uint64)))
    uniforms_N2 = rng.random((num_examples, 2))
    starts_2 = np.array([distribution.heights.start, distribution.widths.start], dtype=np.int64)
    stops_2 = np.array([distribution.heights.stop, distribution.widths.stop], dtype=np.int64)
    if distribution.law == "uniform":
        lengths_N2 = starts_2 + uniforms_N2 * (stops_2 + 1 - starts_2)
    else:
        lengths_N2 = starts_2 * np.exp(uniforms_N2 * np.log((stops_2 + 1) / starts_2))
    # The draws are below stop + 1; rounding of the last bit must not reach it.
    return np.minimum(lengths_N2.astype(np.int64), stops_2)


def check_sizes(sizes_N2: SizeArray) -> None:
    """Check that an array holds valid sizes.

    Raises:
        ValueError: it is not int64 of shape (N, 2) with N at least 1, or a side is outside 1 to MAX_SIDE_PIXELS.
    """
    if sizes_N2.ndim != 2 or sizes_N2.shape[1] != 2 or len(sizes_N2) == 0:
        raise ValueError(f"sizes of shape {sizes_N2.shape}: must be (N, 2) with at least one example")
    if sizes_N2.dtype != np.int64:
        raise ValueError(f"sizes of type {sizes_N2.dtype}: must be int64")
    if sizes_N2.min() < 1 or sizes_N2.max() > MAX_SIDE_PIXELS:
        raise ValueError(f"sizes from {sizes_N2.min()} to {sizes_N2.max()} px: must be within 1 to {MAX_SIDE_PIXELS}")


def read_sizes_csv(path: Path) -> SizeArray:
    """Return the sizes in a CSV file, shape (N, 2), columns height and width in pixels, int64, in the file's order.

    The first non-empty line names the columns, among them ``width`` and ``height`` (or ``w`` and ``h``), in any order.
    Other columns and empty rows are ignored.

    Raises:
        InputError: the file cannot be read, lacks a column, has no rows, or holds a side that is not a whole number
            from 1 to MAX_SIDE_PIXELS; the message names the file, the line (from 1) and the value.
    """
    return sizes_of(read_csv(path))


def sizes_of(table: CsvTable) -> SizeArray:
    """Return the sizes in a table, as ``read_sizes_csv`` does.

    Raises:
        InputError: as for ``read_sizes_csv``, except that the table was already read.
    """
    columns = {name: table.column(name) for name in _COLUMNS}
    if not table.rows:
        raise InputError(
            str(table.path), allowed="there are no sizes below the header", remedy="write one row per image"
        )
    sides = [
        [_parse_side(text, where=f"{table.path}, line {line}: {name}") for name, text in zip(columns, row, strict=True)]
        for line, *row in zip(table.lines, *columns.values(), strict=True)
    ]
    return np.array(sides, dtype=np.int64)


def _parse_side(text: str, *, where: str) -> int:
    """Return the side in a cell, in pixels."""
    # The number of digits is limited because Python refuses to convert thousands of them. A data frame writes whole
    # numbers as 12.0 or 12,0 if the column had a gap. With more zeros the mark could separate thousands.
    match = re.fullmatch(r"([+-]?[0-9]{1,18})([.,]0)?", text)
    side = int(match[1]) if match else None
    if side is not None and 1 <= side <= MAX_SIDE_PIXELS:
        return side
    raise InputError(
        where,
        shown(text),
        allowed=f"a side is a whole number of pixels from 1 to {MAX_SIDE_PIXELS}",
        remedy="correct the value, or delete the row",
    )
