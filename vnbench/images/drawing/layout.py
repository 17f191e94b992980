"""The form that a log is plotted on, rotated by a quarter turn: three tracks and a depth column (API RP 31A).

Depth runs along the image from left to right. The tracks are below each other, with the depth column between the first
and the second. A form is 8.25 in across: three tracks of 2.5 in and a column of 0.75 in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Scale = Literal["linear", "logarithmic"]

FORM_EIGHTHS = 66
"""Eighths of an inch across a form."""

TRACK_EIGHTHS = 20
COLUMN_EIGHTHS = 6

FEET_PER_100_INCHES = (2000, 5000, 10_000, 1667, 4167)
"""Depth scales: 5, 2 and 1 inch per 100 ft (1:240, 1:600, 1:1200), and the metric 1:200 and 1:500."""

HEADER_SHARE = 8
"""A header takes at most this fraction (1/8) of a strip: sections of a long log often have none."""

HEADER_COLUMNS = (150, 320)
"""Minimum and maximum number of columns of a header."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Rows of a track or of the depth column."""

    top: int
    """First row."""
    bottom: int
    """One past the last row."""

    @property
    def height(self) -> int:
        """Rows of the band."""
        return self.bottom - self.top


@dataclass(frozen=True, kw_only=True, slots=True)
class Track(Band):
    """A track with its scale."""

    scale: Scale
    """Spacing of its lines along the depth axis."""
    decades: int
    """Decades of a logarithmic scale; 0 for a linear one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Positions of a form's parts in an image."""

    tracks: tuple[Track, ...]
    """Three tracks, or two if the second and third are printed as one."""
    depth_column: Band
    """Rows in which depths are printed."""
    header: int
    """Columns of the header at the left; 0 if there is none."""
    columns_per_100_ft: int
    """Depth scale in pixels per 100 ft."""
    first_depth_ft: int
    """Depth in feet at the column where the header ends."""


def choose_layout(rng: np.random.Generator, *, height: int, width: int) -> Layout:
    """Return a form that fills the height of an image."""

    def row(eighths: int) -> int:
        return height * eighths // FORM_EIGHTHS

    edges = [row(0), row(TRACK_EIGHTHS), row(TRACK_EIGHTHS + COLUMN_EIGHTHS)]
    edges += [row(2 * TRACK_EIGHTHS + COLUMN_EIGHTHS), height]
    first = Track(top=edges[0], bottom=edges[1], scale="linear", decades=0)
    kind = int(rng.integers(3))
    right: tuple[Track, ...]
    if kind == 0:
        right = (Track(top=edges[2], bottom=edges[4], scale="logarithmic", decades=4),)
    elif kind == 1:
        right = (
            Track(top=edges[2], bottom=edges[3], scale="logarithmic", decades=2),
            Track(top=edges[3], bottom=edges[4], scale="linear", decades=0),
        )
    else:
        right = tuple(
            Track(top=top, bottom=bottom, scale="linear", decades=0)
            for top, bottom in ((edges[2], edges[3]), (edges[3], edges[4]))
        )
    header = int(rng.integers(*HEADER_COLUMNS, endpoint=True)) if rng.integers(2) else 0
    feet = FEET_PER_100_INCHES[int(rng.integers(len(FEET_PER_100_INCHES)))]
    # The height of the form gives pixels per inch; the scale gives the feet in 100 inches.
    columns_per_100_ft = max(height * 8 * 10_000 // (FORM_EIGHTHS * feet), 20)
    return Layout(
        tracks=(first, *right),
        depth_column=Band(top=edges[1], bottom=edges[2]),
        header=header if header * HEADER_SHARE <= width else 0,
        columns_per_100_ft=columns_per_100_ft,
        first_depth_ft=int(rng.integers(4, 140)) * 50,
    )
