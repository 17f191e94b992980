"""The two curves of a log: drawn by pen, told apart by line style, wrapped at the edges of their tracks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vnbench.images.drawing.layout import Band, Layout
from vnbench.images.drawing.value_noise import value_noise

MAX_LINE_THICKNESS = 3
"""Curves are 1 to 3 px thick, which is why the images cannot be resized."""
PENS = (1, 2, 3, 3)
"""Thickness of a pen in pixels; every entry is equally likely."""

OCTAVES = ((384, 60), (48, 40), (12, 30), (6, 22))
"""Knot spacing in pixels and percent of the swing, for formations, beds, laminae and the jitter of the tool.

Each spacing divides the one before it, so that a curve turns only at multiples of the last one, 6 px. Turns in
neighbouring columns would merge into a blot thicker than the line.
"""

SWING_PERCENT = (35, 75)
"""Range of the swing in percent of the track's height."""
LIVELY_PERCENT = (90, 270)
"""Range in percent that scales detail of at most BED pixels: a gamma ray curve is livelier than a smoothed one."""
BED = 48

FINE = 64
"""Subdivisions of a pixel in which curves are computed."""

SOLID = (0, 0)
CODES = (SOLID, SOLID, SOLID, SOLID, SOLID, (26, 10), (11, 6), (3, 3))
"""Pixels of ink and of gap along the line: solid (the most frequent), long-dashed, short-dashed, dotted."""

INK_GRAYS = ((30, 62), (48, 88))
"""Range of the ink's gray for each curve. The ranges differ, like the lines of a real log."""
INK_SWING = 12
"""Gray levels by which the ink varies along a line."""


class Stroke(NamedTuple):
    """Pixels of one curve."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    grays: NDArray[np.uint8]
    """Gray of each pixel."""


def choose_bands(rng: np.random.Generator, layout: Layout) -> tuple[Band, Band]:
    """Return the band of each curve: separate tracks, or both on the right-hand side of the form, where they cross.

    A curve on the right-hand side spans the second and third track, like one scale printed across both.
    """
    tracks = layout.tracks
    right = Band(top=tracks[1].top, bottom=tracks[-1].bottom)
    kind = int(rng.integers(4))
    if kind == 0:
        return tracks[int(rng.integers(len(tracks)))], right
    if kind == 1:
        return right, right
    return tracks[0], right if kind == 2 else tracks[int(rng.integers(1, len(tracks)))]


def choose_codes(rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the line style of each curve as (ink, gap): both solid, or two different entries of CODES."""
    first = int(rng.integers(len(CODES)))
    second = first + 1 + int(rng.integers(len(CODES) - 1))
    return CODES[first], CODES[second % len(CODES)]


def draw_curve(
    rng: np.random.Generator, band: Band, *, number: int, code: tuple[int, int], first_column: int, width: int
) -> Stroke:
    """Return the pixels of a curve from ``first_column`` to the right edge.

    Column x is filled from the value at x to the value at x + 1, so that even a steep solid line stays connected; the
    pen adds its thickness downwards. A value beyond the track wraps around to its other side.
    """
    gray = int(rng.integers(*INK_GRAYS[number], endpoint=True))
    num_columns = max(width - first_column, 0)
    value = _values(rng, height=band.height, length=num_columns + 1)
    thickness = _thickness(rng, length=num_columns)
    top = np.minimum(value[:-1], value[1:])
    run = np.abs(np.diff(value)) + np.minimum(thickness, band.height)
    ink = gray + value_noise(rng, length=num_columns, spacing=157, swing=INK_SWING)
    # A line fills its track at most once.
    run = np.minimum(run, band.height)
    first_of_column = np.cumsum(run) - run
    within = np.arange(run.sum()) - np.repeat(first_of_column, run)
    rows = np.repeat(top, run) + within
    columns = np.repeat(np.arange(num_columns) + first_column, run)
    stroke = Stroke(band.top + rows % max(band.height, 1), columns, np.repeat(ink, run).astype(np.uint8))
    return stroke if code == SOLID else _dashed(stroke, value, run, within, code=code)


def _dashed(
    stroke: Stroke,
    value: NDArray[np.int64],
    run: NDArray[np.int64],
    within: NDArray[np.int64],
    *,
    code: tuple[int, int],
) -> Stroke:
    """Return the inked pixels of a dashed line. Dashes are measured along the line, up as well as down."""
    dash, gap = code
    rise = np.diff(value)
    length = np.maximum(np.abs(rise), 1)
    start = np.cumsum(length) - length
    is_rising = np.repeat(rise < 0, run)
    from_start = np.where(is_rising, np.repeat(run, run) - 1 - within, within)
    is_ink = (np.repeat(start, run) + from_start) % (dash + gap) < dash
    return Stroke(stroke.rows[is_ink], stroke.columns[is_ink], stroke.grays[is_ink])


def _values(rng: np.random.Generator, *, height: int, length: int) -> NDArray[np.int64]:
    """Return the unwrapped rows of a curve, counted from the top of its track."""
    centre = height * int(rng.integers(25, 75)) // 100
    swing = FINE * height * int(rng.integers(*SWING_PERCENT)) // 100
    is_lively = int(rng.integers(*LIVELY_PERCENT))
    value = np.zeros(length, dtype=np.int64)
    for spacing, percent in OCTAVES:
        share = percent if spacing > BED else percent * is_lively // 100
        value += value_noise(rng, length=length, spacing=spacing, swing=swing * share // 100)
    return centre + value // FINE


def _thickness(rng: np.random.Generator, *, length: int) -> NDArray[np.int64]:
    """Return the thickness of the line in each column: the pen's own, give or take one pixel for a stretch."""
    own = PENS[int(rng.integers(len(PENS)))]
    change = value_noise(rng, length=length, spacing=211, swing=2 * FINE) // (FINE + FINE // 2)
    return np.clip(own + change, 1, MAX_LINE_THICKNESS)
