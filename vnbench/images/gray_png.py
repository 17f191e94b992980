"""8-bit grayscale PNG, encoded to bytes and decoded from a file: masks always, images unless asked otherwise."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COMPRESS_LEVEL = 1
"""zlib's fastest. Its default, 6, takes 1.4 s for an image of 640 x 12,800 and leaves it no smaller than IMAGE_STRATEGY
does in 0.19 s."""

IMAGE_STRATEGY = zlib.Z_RLE
"""Run lengths and Huffman codes alone: grain has no repeats for zlib to find. 0.45 bytes per pixel where the default
strategy needs 0.53 at this level, and no slower to write or to read.

Pillow seeks the best of five filters for each row, as most writers do, which is most of the time. One filter for all
rows would be written in 0.4 of it, but also read in 0.6: loaders would look faster than with the files of an archive.
"""

MASK_STRATEGY = zlib.Z_DEFAULT_STRATEGY
"""A mask takes 0.02 bytes per pixel with it and 0.01 with run lengths, but is read in 9 ms rather than 21."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END_CHUNK = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_GRAY_8_BIT = b"\x08\x00"


def encode_image(image_HW: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of an image, uint8 (H, W)."""
    return _encode(image_HW, strategy=IMAGE_STRATEGY)


def encode_mask(mask_HW: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of a mask of classes, uint8 (H, W)."""
    return _encode(mask_HW, strategy=MASK_STRATEGY)


def is_whole_png(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file has the header of a grayscale PNG of (height, width) and ends where one ends.

    That tells a truncated file from a finished one in two small reads; the pixels between are not looked at.
    """
    height, width = expected_size
    header = _SIGNATURE + b"\x00\x00\x00\x0dIHDR" + width.to_bytes(4) + height.to_bytes(4) + _GRAY_8_BIT
    try:
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                return False
            file.seek(-len(_END_CHUNK), io.SEEK_END)
            return file.read() == _END_CHUNK
    except OSError:
        return False


def _encode(pixels_HW: NDArray[np.uint8], *, strategy: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW).save(buffer, format="PNG", compress_level=COMPRESS_LEVEL, compress_type=strategy)
    return buffer.getvalue()
