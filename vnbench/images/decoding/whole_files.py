"""Detection of incomplete image files with a few small reads, without decoding."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

from PIL.TiffImagePlugin import TiffImageFile

from vnbench.images.decoding.gray_png import END_CHUNK
from vnbench.images.decoding.gray_tiff import holds_its_pixels

HEAD_BYTES = 16

TIFF_LAYOUTS = {42: (4, 2, 12), 43: (8, 8, 20)}
"""For the version number of TIFF and of BigTIFF: the position of the offset to the first directory, the bytes of a tag
count, and the bytes of a tag (TIFF 6.0, section 2; BigTIFF has longer offsets and counts)."""

LFS_POINTER = b"version https://git-lfs"
"""Start of the pointer file that a checkout without Git LFS holds in place of an image."""

GIF_END = b";"

TAIL_BYTES = 65_536
"""Bytes at the end of a JPEG to search for its end marker: cameras write data behind it."""

JPEG_END = b"\xff\xd9"
"""JPEG's end marker. It cannot occur in coded pixels, where a byte of 255 is followed by 0."""


def seems_whole(path: Path) -> bool:
    """Return whether an image file seems complete; True for an unknown format.

    A file that seems incomplete may still decode, and one that seems complete may be damaged inside.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        num_bytes = os.fstat(file.fileno()).st_size
        if head.startswith(b"\x89PNG"):
            return _tail(file, len(END_CHUNK), num_bytes) == END_CHUNK
        if head.startswith(b"\xff\xd8"):
            return JPEG_END in _tail(file, TAIL_BYTES, num_bytes)
        if head.startswith(b"GIF8"):
            return _tail(file, len(GIF_END), num_bytes) == GIF_END
        if head.startswith(b"BM"):
            return int.from_bytes(head[2:6], "little") <= num_bytes
        if head.startswith(b"RIFF"):
            return 8 + int.from_bytes(head[4:8], "little") <= num_bytes
        if head[:2] in (b"II", b"MM"):
            return _is_whole_tiff(file, head, num_bytes)
    return True


def stand_in_of(path: Path) -> str | None:
    """Return what an image that could not be opened really is, if it is a known case; else None.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "is empty, as after a failed download; fetch it again"
    if head.startswith(LFS_POINTER):
        return "is a Git LFS pointer, not the image; run git lfs pull"
    if head.lstrip()[:5].lower() in (b"<html", b"<!doc", b"<?xml"):
        return "is a web page, not an image, as servers send for a missing file; fetch it again"
    return None


def _is_whole_tiff(file: BinaryIO, head: bytes, num_bytes: int) -> bool:
    """Return whether a TIFF holds its first directory and the pixels that the directory lists."""
    order: Literal["little", "big"] = "little" if head.startswith(b"II") else "big"
    layout = TIFF_LAYOUTS.get(int.from_bytes(head[2:4], order))
    if layout is None:
        return True
    at, num_bytes_of_count, num_bytes_of_tag = layout
    place = int.from_bytes(head[at : 2 * at], order)
    file.seek(place)
    num_tags = int.from_bytes(file.read(num_bytes_of_count), order)
    if place < 2 * at or place + num_bytes_of_count + num_tags * num_bytes_of_tag > num_bytes:
        return False
    file.seek(0)
    try:
        with TiffImageFile(file) as image:
            return holds_its_pixels(image, num_bytes)
    except Exception:  # reading the file will report the defect
        return True


def _tail(file: BinaryIO, count: int, num_bytes: int) -> bytes:
    file.seek(max(0, num_bytes - count))
    return file.read()
