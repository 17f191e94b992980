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

PARTS = ((273, 279), (324, 325))
"""TIFF's tags of where the strips of an image lie and of their bytes, and those of tiles (TIFF 6.0, sections 8, 15)."""

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
            return image.size == expected_size[::-1] and holds_its_pixels(image, path.stat().st_size)
    except Exception:  # a broken header surfaces as OSError, SyntaxError, KeyError, ValueError, struct.error, TypeError
        return False


def holds_its_pixels(image: TiffImageFile, num_bytes: int) -> bool:
    """Return whether all strips or tiles of an opened file lie within so many bytes, as far as its tags tell."""
    ends = [
        offset + count
        for offsets, counts in PARTS
        for offset, count in zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
    ]
    return bool(ends) and max(ends) <= num_bytes
