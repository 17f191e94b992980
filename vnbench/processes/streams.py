"""The standard streams, however they were handed over: closed, full, without a reader, in an encoding of few letters.

What cannot be written must not end what is measured. A reader that goes away, as ``head`` does, has enough; that a disk
is full is told at the end.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any, cast

SPELLED_OUT = {"\N{PLUS-MINUS SIGN}": "+-"}
"""Characters of our own that an encoding may lack. Tables are drawn in ASCII there, which is rich's doing."""

ESCAPES = "vnbench-escapes"
"""Name of the error handler of streams."""


class Stream(io.FileIO):
    """A standard stream that takes everything, and drops it from its first failure on."""

    trouble: OSError | None = None
    """That failure, unless it was that nobody reads any more."""
    is_over = False
    """Whether it failed."""
    is_terminal = False
    """Whether it began as a terminal, which may be closed while a sweep runs."""

    def write(self, content: bytes) -> int:  # type: ignore[override]  # wider in typeshed
        """Write, unless it failed before."""
        if not self.is_over:
            try:
                return super().write(content)
            except OSError as error:
                self.is_over = True
                if error.errno != errno.EPIPE and not self.is_terminal:
                    self.trouble = error
        return len(content)


def prepare_streams() -> Stream:
    """Put streams that never fail in the place of the standard ones; return the one below stdout."""
    codecs.register_error(ESCAPES, _escaped)
    for descriptor in range(3):
        _fill(descriptor)
    below, sys.stdout = _open(1, sys.stdout)
    _, sys.stderr = _open(2, sys.stderr)
    return below


def _fill(descriptor: int) -> None:
    """Put /dev/null where a stream is closed: the next file that is opened would take its place."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        os.set_inheritable(null, True)


def _open(descriptor: int, given: object) -> tuple[Stream, io.TextIOWrapper]:
    below = Stream(descriptor, "wb", closefd=False)
    below.is_terminal = below.isatty()
    buffer: Any = below if getattr(given, "write_through", False) else io.BufferedWriter(cast(Any, below))
    return below, io.TextIOWrapper(
        buffer,
        # Of what was closed (None) nothing is known.
        encoding=getattr(given, "encoding", "utf-8"),
        errors=ESCAPES,
        line_buffering=getattr(given, "line_buffering", True),
        write_through=getattr(given, "write_through", False),
    )


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for a character that an encoding lacks, and where to go on after it.

    A byte of a file name that is no UTF-8 goes out as it came in.
    """
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    text = SPELLED_OUT.get(character) or character.encode("ascii", "backslashreplace").decode()
    return text, error.start + 1
