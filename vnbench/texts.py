"""Read text files of other programs: UTF-8, UTF-16 with a byte order mark (PowerShell, Excel), or gzip."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, cast

from vnbench.errors import InputError

Form = Literal["UTF-8", "UTF-16", "gzip"]

GZIP = b"\x1f\x8b"

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

UNREAD = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
    b"PK\x03\x04": ("zip", "unzip"),
}
"""Compressed formats that are not read: first bytes to name and unpacking program."""

HEAD = max(map(len, UNREAD))

BUFFER_BYTES = 2**20
"""Bytes that are read at once: a line of a record is longer than Python's buffer, and would be put together."""


def check_replaceable(path: Path, *, where: str, starts: Sequence[bytes]) -> None:
    """Check that a file may be overwritten: it is missing, empty, or begins with one of ``starts``.

    Raises:
        InputError: it begins with something else.
    """
    try:
        with path.open("rb") as file:
            head = file.read(max(map(len, starts)))
    except OSError:
        return  # it is missing, or the attempt to write it will report why it cannot be written
    if head and not head.startswith(tuple(starts)):
        raise InputError(where, path, allowed="holds other data, which would be lost", remedy="name another file")


def check_regular(path: Path) -> None:
    """Check that a path is not a pipe, a socket or a device, whose content may never end.

    Raises:
        InputError: it is one of these.
    """
    if path.exists() and not path.is_file():
        raise InputError(str(path), allowed="is not a regular file", remedy="copy its content into a file first")


def form_of(path: Path) -> Form:
    """Return the encoding of a text file, found from its first bytes.

    Raises:
        InputError: its compression is not supported.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _form_of_head(file.read(HEAD), path)


def _form_of_head(head: bytes, path: Path) -> Form:
    for start, (name, program) in UNREAD.items():
        if head.startswith(start):
            raise InputError(
                str(path),
                allowed=f"is compressed with {name}; only text and gzip are read",
                remedy=f"run {program} {path}",
            )
    return "gzip" if head.startswith(GZIP) else "UTF-16" if head.startswith(UTF_16) else "UTF-8"


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a text file as UTF-8, one at a time, with line ends and without a byte order mark.

    Raises:
        InputError: its compression is not supported, or its gzip data is damaged or cut short.
        OSError: it cannot be read.
    """
    form = form_of(path)
    with path.open("rb", buffering=BUFFER_BYTES) as file:
        if form == "gzip":
            with gzip.open(file) as unpacked:
                yield from _unpacked(cast(BinaryIO, unpacked), path)
        elif form == "UTF-16":
            with io.TextIOWrapper(file, encoding="utf-16", errors="replace", newline="\n") as text:
                yield from (line.encode() for line in text)
        else:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            yield from file


def unpacked(content: bytes, path: Path) -> bytes:
    """Return the content of a text file, unpacked if it is gzip.

    Raises:
        InputError: as for ``lines_of``.
    """
    if _form_of_head(content[:HEAD], path) != "gzip":
        return content
    with gzip.open(io.BytesIO(content)) as file:
        return b"".join(_unpacked(cast(BinaryIO, file), path))


def decoded(content: bytes) -> str:
    """Return text from UTF-8, or from UTF-16 with a byte order mark.

    Raises:
        UnicodeDecodeError: the content is neither.
    """
    return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")


def _unpacked(lines: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            str(path), allowed=f"cannot be unpacked ({error})", remedy="copy it again, or name the unpacked file"
        ) from error
