"""PNG files: encoding of 8-bit grayscale images and masks, and access to the chunks of any PNG."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COMPRESS_LEVEL = 1
"""zlib's fastest level. Its default, 6, takes 1.4 s for an image of 640 x 12,800 and makes it no smaller than
IMAGE_STRATEGY does in 0.19 s."""

IMAGE_STRATEGY = zlib.Z_RLE
"""Run lengths and Huffman codes only, since grain has no repeats for zlib to find. It takes 0.45 bytes per pixel where
the default strategy takes 0.53 at this level, and is no slower to write or to read.

Pillow, like most writers, searches the best of five filters for each row, which takes most of the time. A single filter
would cut the time to write to 0.4, but also the time to read to 0.6: loaders would look faster than on real archives.
"""

MASK_STRATEGY = zlib.Z_DEFAULT_STRATEGY
"""A mask takes 0.02 bytes per pixel rather than 0.01 with run lengths, but is read in 9 ms rather than 21 ms."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_CHUNK = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_GRAY_8_BIT = b"\x08\x00"

_EXIF = b"eXIf"
_REMARKS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_HEAD_BYTES, _FRAME_BYTES = 8, 12
"""Bytes of a chunk's length and kind; of length, kind and checksum."""


def encode_image(image_HW: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of an image, uint8 (H, W)."""
    return _encode(image_HW, strategy=IMAGE_STRATEGY)


def encode_mask(mask_HW: NDArray[np.uint8]) -> bytes:
    """Return the PNG file of a mask of classes, uint8 (H, W)."""
    return _encode(mask_HW, strategy=MASK_STRATEGY)


def is_whole_png(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file has the header of a grayscale PNG of (height, width) and the end of a PNG.

    Two small reads tell a truncated file from a complete one; the pixels between them are not checked.
    """
    height, width = expected_size
    header = _SIGNATURE + b"\x00\x00\x00\x0dIHDR" + width.to_bytes(4) + height.to_bytes(4) + _GRAY_8_BIT
    try:
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                return False
            file.seek(-len(END_CHUNK), io.SEEK_END)
            return file.read() == END_CHUNK
    except OSError:
        return False


def exif_behind_pixels(file: IO[bytes], start: int) -> bytes | None:
    """Return the EXIF chunk behind the pixels, where some tools write it; None if there is none.

    ``start`` is the offset of the first pixel chunk's content. Only the heads of chunks are read, and the file's
    position does not change.
    """
    read_at = _reader(file)
    for place, length, kind in _chunks(read_at, start - _HEAD_BYTES):
        if kind == _EXIF:
            return read_at(place + _HEAD_BYTES, length)
    return None


def without_remarks(file: IO[bytes]) -> bytes | None:
    """Return a PNG file without texts and colour profile, which its pixels do not need; None if it is not a PNG."""
    read_at = _reader(file)
    if read_at(0, len(_SIGNATURE)) != _SIGNATURE:
        return None
    chunks = _chunks(read_at, len(_SIGNATURE))
    kept = [read_at(place, _FRAME_BYTES + length) for place, length, kind in chunks if kind not in _REMARKS]
    return b"".join([_SIGNATURE, *kept])


def _reader(file: IO[bytes]) -> Callable[[int, int], bytes]:
    """Return a function that reads exactly (offset, number of bytes); a file object would read whole blocks."""
    if isinstance(file, io.BytesIO):
        content = file.getvalue()
        return lambda place, count: content[place : place + count]
    return lambda place, count: os.pread(file.fileno(), count, place)


def _chunks(read_at: Callable[[int, int], bytes], place: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the offset, length of content and kind of each chunk from ``place`` on."""
    while len(head := read_at(place, _HEAD_BYTES)) == _HEAD_BYTES:
        length = int.from_bytes(head[:4])
        yield place, length, head[4:]
        place += _FRAME_BYTES + length


def _encode(pixels_HW: NDArray[np.uint8], *, strategy: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW).save(buffer, format="PNG", compress_level=COMPRESS_LEVEL, compress_type=strategy)
    return buffer.getvalue()
