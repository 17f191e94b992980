"""Whether a file ends where an image of its format ends, told by a few small reads and not by its pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from PIL.TiffImagePlugin import TiffImageFile

from vnbench.images.gray_png import END_CHUNK
from vnbench.images.gray_tiff import holds_its_pixels

HEAD_BYTES = 12

TAIL_BYTES = 65_536
"""Where the end of a JPEG is looked for: cameras write more behind it."""

JPEG_END = b"\xff\xd9"
"""Never among the coded pixels, where a byte of 255 is followed by 0."""


def seems_whole(path: Path) -> bool:
    """Return whether an image file holds all that it says it does; one of an unknown format does.

    A file that does not seem whole may decode all the same, and one that does may be broken within.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        num_bytes = os.fstat(file.fileno()).st_size
        if head.startswith(b"\x89PNG"):
            return _tail(file, len(END_CHUNK), num_bytes) == END_CHUNK
        if head.startswith(b"\xff\xd8"):
            return JPEG_END in _tail(file, TAIL_BYTES, num_bytes)
        if head.startswith(b"BM"):
            return int.from_bytes(head[2:6], "little") <= num_bytes
        if head.startswith(b"RIFF"):
            return 8 + int.from_bytes(head[4:8], "little") <= num_bytes
        if head[:2] in (b"II", b"MM"):
            file.seek(0)
            with TiffImageFile(file) as image:
                return holds_its_pixels(image, num_bytes)
    return True


def _tail(file: BinaryIO, count: int, num_bytes: int) -> bytes:
    file.seek(max(0, num_bytes - count))
    return file.read()
