"""Text on a log, in Pillow's built-in bitmap font, whose pixels do not depend on a font library."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

Letters = NDArray[np.bool_]
"""Ink of a text, (H, W)."""


@cache
def _font() -> ImageFont.ImageFont:
    return ImageFont.load_default_imagefont()


@cache
def letters(text: str, *, scale: int = 1) -> Letters:
    """Return the ink of a text in letters of 6 x 11 px times ``scale``, read from left to right; read-only.

    A strip lies on its side, so print on it needs a quarter turn: see ``turned``.
    """
    mask = _font().getmask(text)
    width, height = mask.size
    ink_HW = np.array(mask, dtype=np.uint8).reshape(height, width) > 0
    ink_HW = np.kron(ink_HW, np.ones((scale, scale), dtype=bool))
    ink_HW.setflags(write=False)
    return ink_HW


def turned(text: str, *, scale: int = 1) -> Letters:
    """Return the ink of a text that reads from bottom to top, as on a strip whose depth runs from left to right."""
    return np.rot90(letters(text, scale=scale))


def stamp(image_HW: NDArray[np.uint8], ink_HW: Letters, *, row: int, column: int, gray: int) -> None:
    """Print a text into an image with its top left corner at (row, column); print nothing if it does not fit."""
    height, width = ink_HW.shape
    if row < 0 or column < 0 or row + height > image_HW.shape[0] or column + width > image_HW.shape[1]:
        return
    place_HW = image_HW[row : row + height, column : column + width]
    np.minimum(place_HW, np.uint8(gray), out=place_HW, where=ink_HW)
