"""Grayscale TIFF as in archives, encoded by Pillow's libtiff: 1-bit Group 4, 8-bit deflate and zstd."""

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
"""Pillow's name of each compression."""

PARTS = ((273, 279), (324, 325))
"""TIFF tags for the offsets and byte counts of strips, then of tiles (TIFF 6.0, sections 8 and 15)."""

THRESHOLD = 128
"""Lowest gray that becomes white in a one-bit scan."""


def encode_tiff(image_HW: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Return the TIFF file of an image, uint8 (H, W). With Group 4 each pixel becomes black or white."""
    image = Image.fromarray(image_HW)
    if image_format == "tiff-g4":
        image = Image.fromarray(image_HW >= THRESHOLD)
    buffer = io.BytesIO()
    image.save(buffer, format="TIFF", compression=COMPRESSIONS[image_format])
    return buffer.getvalue()


def is_whole_tiff(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file is a TIFF of (height, width) that holds all its strips; pixels are not checked."""
    try:
        with path.open("rb") as file, TiffImageFile(file) as image:
            return image.size == expected_size[::-1] and holds_its_pixels(image, path.stat().st_size)
    except Exception:  # a broken header surfaces as OSError, SyntaxError, KeyError, ValueError, struct.error, TypeError
        return False


def holds_its_pixels(image: TiffImageFile, num_bytes: int) -> bool:
    """Return whether all strips or tiles of an opened file end within ``num_bytes``, according to its tags."""
    ends = [
        offset + count
        for offsets, counts in PARTS
        for offset, count in zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
    ]
    return bool(ends) and max(ends) <= num_bytes
