"""Make the standard streams safe to write to, whether closed, full, without a reader, or in a small encoding.

A failed write must not end a measurement. A reader that closes the pipe, as ``head`` does, is no error; a full disk is
reported at the end.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any, cast

SPELLED_OUT = {"\N{PLUS-MINUS SIGN}": "+-"}
"""Replacements for characters that an encoding may lack. rich draws tables in ASCII in such encodings."""

ESCAPES = "vnbench-escapes"
"""Name of the codec error handler of the streams."""


class Stream(io.FileIO):
    """A standard stream whose writes never fail: after the first error it drops what is written."""

    trouble: OSError | None = None
    """The first error; None after a broken pipe or an error of a terminal."""
    is_over = False
    """Whether a write failed."""
    is_terminal = False
    """Whether it was a terminal at the start; a terminal may be closed while a sweep runs."""

    def write(self, content: bytes) -> int:  # type: ignore[override]  # wider in typeshed
        """Write, unless a write failed before; return the number of bytes, written or dropped."""
        if not self.is_over:
            try:
                return super().write(content)
            except OSError as error:
                self.is_over = True
                if error.errno != errno.EPIPE and not self.is_terminal:
                    self.trouble = error
        return len(content)


def prepare_streams() -> Stream:
    """Replace stdout and stderr by streams that never fail; return the raw stream below stdout."""
    codecs.register_error(ESCAPES, _escaped)
    for descriptor in range(3):
        _fill(descriptor)
    below, sys.stdout = _open(1, sys.stdout)
    _, sys.stderr = _open(2, sys.stderr)
    return below


def _fill(descriptor: int) -> None:
    """Open /dev/null in place of a closed stream: the next opened file would otherwise get its descriptor."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
        os.set_inheritable(null, True)


def _open(descriptor: int, given: object) -> tuple[Stream, io.TextIOWrapper]:
    below = Stream(descriptor, "wb", closefd=False)
    below.is_terminal = below.isatty()
    buffer: Any = below if getattr(given, "write_through", False) else io.BufferedWriter(cast(Any, below))
    return below, io.TextIOWrapper(
        buffer,
        # A closed stream is None and has no attributes, so the defaults hold.
        encoding=getattr(given, "encoding", "utf-8"),
        errors=ESCAPES,
        line_buffering=getattr(given, "line_buffering", True),
        write_through=getattr(given, "write_through", False),
    )


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement of a character that an encoding lacks, and the index after it.

    A byte of a file name that is not UTF-8 is written unchanged.
    """
    assert isinstance(error, UnicodeEncodeError)
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    text = SPELLED_OUT.get(character) or character.encode("ascii", "backslashreplace").decode()
    return text, error.start + 1
