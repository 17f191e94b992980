"""Grayscale TIFF as archives keep it: Group 4 of one bit per pixel, deflate and zstd of eight, by Pillow's libtiff."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from vnbench.records.spec.words import ImageFormat

COMPRESSIONS: Mapping[ImageFormat, str] = {
    "tiff-g4": "group4",
    "tiff-deflate": "tiff_adobe_deflate",
    "tiff-zstd": "zstd",
}
"""Pillow's names of them."""

STRIP_OFFSETS, STRIP_BYTE_COUNTS = 273, 279
"""TIFF's tags of where the strips of an image lie (TIFF 6.0, section 8)."""

THRESHOLD = 128
"""Gray from which on a pixel of a one-bit scan is white."""


def encode_tiff(image_HW: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Return the TIFF file of an image, uint8 (H, W); of Group 4 a pixel is black or white."""
    image = Image.fromarray(image_HW)
    if image_format == "tiff-g4":
        image = Image.fromarray(image_HW >= THRESHOLD)
    buffer = io.BytesIO()
    image.save(buffer, format="TIFF", compression=COMPRESSIONS[image_format])
    return buffer.getvalue()


def is_whole_tiff(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file is a TIFF of (height, width) whose strips all lie within it; pixels are not looked at."""
    try:
        with path.open("rb") as file, TiffImageFile(file) as image:
            strips = zip(image.tag_v2[STRIP_OFFSETS], image.tag_v2[STRIP_BYTE_COUNTS], strict=True)
            is_there = max(offset + count for offset, count in strips) <= path.stat().st_size
            return bool(image.size == expected_size[::-1] and is_there)
    except Exception:  # a broken header surfaces as OSError, SyntaxError, KeyError, ValueError, struct.error, TypeError
        return False
