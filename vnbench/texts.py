"""Text files as other programs leave them: UTF-8, UTF-16 with its mark (as PowerShell and Excel write it), or gzip."""

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
"""First bytes of what is compressed otherwise: its name, and the program that unpacks it."""

HEAD = max(map(len, UNREAD))


def check_replaceable(path: Path, *, where: str, starts: Sequence[bytes]) -> None:
    """Refuse to write over a file that holds something else; ``starts`` are how those begin that may be replaced.

    Raises:
        InputError: it is there, and begins otherwise.
    """
    try:
        with path.open("rb") as file:
            head = file.read(max(map(len, starts)))
    except OSError:
        return  # it is not there, or whoever writes it is told why it cannot be written
    if head and not head.startswith(tuple(starts)):
        raise InputError(
            where, path, allowed="it holds something else, which would be lost", remedy="name another file"
        )


def check_regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device, which may never end.

    Raises:
        InputError: it is one.
    """
    if path.exists() and not path.is_file():
        raise InputError(str(path), allowed="this is no regular file", remedy="write it into one first")


def form_of(path: Path) -> Form:
    """Return how a text file is written, by its first bytes.

    Raises:
        InputError: it is compressed with something that is not read.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _form_of_head(file.read(HEAD), path)


def _form_of_head(head: bytes, path: Path) -> Form:
    for start, (name, program) in UNREAD.items():
        if head.startswith(start):
            raise InputError(
                str(path), allowed=f"this is {name}; gzip is read, and text", remedy=f"unpack it: {program} {path}"
            )
    return "gzip" if head.startswith(GZIP) else "UTF-16" if head.startswith(UTF_16) else "UTF-8"


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a text file in UTF-8, with their ends and without a mark, one at a time.

    Raises:
        InputError: it is compressed with something that is not read, or cut short.
        OSError: it cannot be read.
    """
    form = form_of(path)
    with path.open("rb") as file:
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
        InputError: as ``lines_of``.
    """
    if _form_of_head(content[:HEAD], path) != "gzip":
        return content
    with gzip.open(io.BytesIO(content)) as file:
        return b"".join(_unpacked(cast(BinaryIO, file), path))


def decoded(content: bytes) -> str:
    """Return a text that is UTF-8, or has a mark that says otherwise.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")


def _unpacked(lines: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            str(path), allowed=f"it cannot be unpacked ({error})", remedy="copy it anew, or name the unpacked file"
        ) from error
