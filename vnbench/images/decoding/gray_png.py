"""8-bit grayscale PNG encoded to bytes, masks always, images unless asked otherwise; and the chunks of any PNG file."""

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
END_CHUNK = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_GRAY_8_BIT = b"\x08\x00"

_EXIF = b"eXIf"
_REMARKS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_HEAD_BYTES, _FRAME_BYTES = 8, 12
"""Of a chunk: its length and kind; with its checksum."""


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
            file.seek(-len(END_CHUNK), io.SEEK_END)
            return file.read() == END_CHUNK
    except OSError:
        return False


def exif_behind_pixels(file: IO[bytes], start: int) -> bytes | None:
    """Return the EXIF that stands behind the pixels, as some tools write it; None if none does.

    ``start`` is where the content of the first chunk of pixels begins. Only the heads of chunks are read, and where the
    file is read next stays as it is.
    """
    read_at = _reader(file)
    for place, length, kind in _chunks(read_at, start - _HEAD_BYTES):
        if kind == _EXIF:
            return read_at(place + _HEAD_BYTES, length)
    return None


def without_remarks(file: IO[bytes]) -> bytes | None:
    """Return a PNG file without its texts and its colour profile, which no pixel needs; None if it is no PNG file."""
    read_at = _reader(file)
    if read_at(0, len(_SIGNATURE)) != _SIGNATURE:
        return None
    chunks = _chunks(read_at, len(_SIGNATURE))
    kept = [read_at(place, _FRAME_BYTES + length) for place, length, kind in chunks if kind not in _REMARKS]
    return b"".join([_SIGNATURE, *kept])


def _reader(file: IO[bytes]) -> Callable[[int, int], bytes]:
    """Return what reads a number of bytes at a place of a file, and no more: a file object would read blocks."""
    if isinstance(file, io.BytesIO):
        content = file.getvalue()
        return lambda place, count: content[place : place + count]
    return lambda place, count: os.pread(file.fileno(), count, place)


def _chunks(read_at: Callable[[int, int], bytes], place: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield where each chunk from a place on begins, the bytes of its content, and its kind."""
    while len(head := read_at(place, _HEAD_BYTES)) == _HEAD_BYTES:
        length = int.from_bytes(head[:4])
        yield place, length, head[4:]
        place += _FRAME_BYTES + length


def _encode(pixels_HW: NDArray[np.uint8], *, strategy: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW).save(buffer, format="PNG", compress_level=COMPRESS_LEVEL, compress_type=strategy)
    return buffer.getvalue()
