"""Traces of age and scanner on a strip: folds and stains, a skewed feed, specks and grain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vnbench.images.drawing.value_noise import value_noise

Gray = NDArray[np.uint8]

FOLD_SPACING = 2600
"""A strip has at most one fold, plus one per this many columns: logs are kept folded like a fan."""

STAIN_GRAYS = (6, 20)
"""Gray levels that a stain takes from the paper."""
STAIN_RADII = (40, 240)

MAX_SKEW = 9
"""Maximum height difference between the ends of a strip, in rows: longer strips are fed straighter."""
MAX_TAPER = 5
"""Maximum difference in height between left and right end, in rows: slight perspective."""
MAX_LEAN = 6
"""Maximum number of columns by which the lower edge is ahead of the upper one."""
FEED_SWING = 2
"""Rows by which the feed wanders."""

SPECKS_PER_MPX = (300, 2500)
"""Pixels of dust per megapixel, 0.03 to 0.25 %; half as many are holes in the ink."""

BLEED = 3
"""A pixel beside a stroke loses this fraction (1/3) of its gray."""


BEYOND_GRAYS = (52, 240)
"""Gray beyond a strip: the scanner's dark bed, or its white lid."""


class Feed(NamedTuple):
    """Distortion by the scanner: the place on the strip that each place of the scan shows."""

    shifts_W: NDArray[np.int64]
    """Rows by which each column is shifted down."""
    taper: int
    """Rows by which the right end is stretched."""
    leans_H: NDArray[np.int64]
    """Columns by which each row is shifted to the right."""
    beyond: int
    """Gray beyond the strip."""


def choose_feed(rng: np.random.Generator, *, height: int, width: int) -> Feed:
    """Return a random feed; small strips get a straight one."""
    skew, taper, lean = (int(rng.integers(-most, most, endpoint=True)) for most in (MAX_SKEW, MAX_TAPER, MAX_LEAN))
    feeding = value_noise(rng, length=width, spacing=463, swing=FEED_SWING)
    share = min(height, 480)
    position = np.arange(width) - width // 2
    shifts_W = (skew * share * position // (480 * max(width, 1))) + feeding * share // 480
    leans_H = lean * share * np.arange(height) // (480 * height)
    return Feed(shifts_W, taper * share // 480, leans_H, BEYOND_GRAYS[int(rng.integers(2))])


def feed(strip_HW: Gray, way: Feed, *, beyond: int) -> Gray:
    """Return the scan of a strip by nearest-pixel lookup, (H, W) like the strip.

    Pixels outside the strip become ``beyond``. Image and mask take the same feed.
    """
    height, width = strip_HW.shape
    moved_HW = np.empty_like(strip_HW)
    rows_H = np.arange(height)
    stretch_W = way.taper * (2 * np.arange(width) - width) // max(2 * width, 1)
    # Neighbouring columns with equal shifts are moved together.
    changes = np.flatnonzero(np.diff(way.shifts_W) | np.diff(stretch_W)) + 1
    for start, stop in zip((0, *changes), (*changes, width), strict=True):
        shift, stretch = int(way.shifts_W[start]), int(stretch_W[start])
        from_H = rows_H - shift - stretch * (2 * rows_H - height) // max(height, 1)
        moved_HW[:, start:stop] = strip_HW[:, start:stop].take(np.clip(from_H, 0, height - 1), axis=0)
        moved_HW[(from_H < 0) | (from_H >= height), start:stop] = beyond
    leaning_HW = np.full_like(moved_HW, beyond)
    for row, lean in enumerate(np.clip(way.leans_H, 1 - width, width - 1).tolist()):
        if lean >= 0:
            leaning_HW[row, lean:] = moved_HW[row, : width - lean]
        else:
            leaning_HW[row, :lean] = moved_HW[row, -lean:]
    return leaning_HW


def wear(rng: np.random.Generator, image_HW: Gray) -> None:
    """Put folds and stains on a strip, in place."""
    height, width = image_HW.shape
    for _ in range(int(rng.integers(1 + width // FOLD_SPACING, endpoint=True))):
        _fold(rng, image_HW, column=int(rng.integers(width)))
    for _ in range(int(rng.integers(4))):
        radius = int(rng.integers(*STAIN_RADII, endpoint=True))
        _stain(rng, image_HW, row=int(rng.integers(height)), column=int(rng.integers(width)), radius=radius)


def _fold(rng: np.random.Generator, image_HW: Gray, *, column: int) -> None:
    """Draw a crease across the strip: a meandering dark line, worn to white in places, with a shadow beside it."""
    height, width = image_HW.shape
    way = column + value_noise(rng, length=height, spacing=97, swing=2)
    is_worn = value_noise(rng, length=height, spacing=31, swing=10) > 5
    rows = np.arange(height)
    for offset, dark in ((-3, 6), (-2, 10), (-1, 18), (0, 34), (1, 14), (2, 8)):
        columns = way + offset
        inside = (columns >= 0) & (columns < width)
        here = rows[inside], columns[inside]
        worn = is_worn[inside] & (abs(offset) <= 1)
        levels = image_HW[here].astype(np.int64)
        image_HW[here] = np.where(worn, np.minimum(levels + 34, 246), np.maximum(levels - dark, 20)).astype(np.uint8)


def _stain(rng: np.random.Generator, image_HW: Gray, *, row: int, column: int, radius: int) -> None:
    """Draw a round stain or the ring of a cup, darker at the rim."""
    height, width = image_HW.shape
    dark = int(rng.integers(*STAIN_GRAYS, endpoint=True))
    is_ring = bool(rng.integers(2))
    top, bottom = max(row - radius, 0), min(row + radius, height)
    left, right = max(column - radius, 0), min(column + radius, width)
    squares = np.add.outer(np.square(np.arange(top, bottom) - row), np.square(np.arange(left, right) - column))
    rim = max(radius // 9, 3)
    depth = np.where(squares < radius * radius, 0 if is_ring else dark // 2, 0)
    depth[(squares < radius * radius) & (squares > (radius - rim) * (radius - rim))] = dark
    place_HW = image_HW[top:bottom, left:right]
    place_HW -= np.minimum(depth, place_HW // 2).astype(np.uint8)


def specks(rng: np.random.Generator, image_HW: Gray) -> None:
    """Put dust and holes on a scan, in place."""
    num_pixels = image_HW.size
    count = int(rng.integers(*SPECKS_PER_MPX, endpoint=True)) * num_pixels // 1_000_000
    flat = image_HW.reshape(-1)
    flat[rng.integers(num_pixels, size=count)] = 70
    flat[rng.integers(num_pixels, size=count // 2)] = 244


def grain(rng: np.random.Generator, image_HW: Gray) -> None:
    """Add the grain of paper and scanner, in place: 0 to 8 gray levels, binomial, standard deviation 1.4.

    It counts the set bits of a random byte, which is as good as a normal deviate at this scale and twenty times as
    fast.
    """
    image_HW += np.bitwise_count(np.frombuffer(rng.bytes(image_HW.size), dtype=np.uint8)).reshape(image_HW.shape)
