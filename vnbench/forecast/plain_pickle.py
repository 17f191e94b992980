"""Pickles that hold plain data and nothing else: numbers, texts, lists, dictionaries, and tuples of numbers.

The operations of a pickle are looked over before any is carried out. To refuse functions and classes is not enough: a
few bytes can ask for any memory, and a key of a dictionary may be a tuple that lies in others so deep that Python ends.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import sys
from typing import Any, NamedTuple, NoReturn

NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "NONE", "NEWTRUE", "NEWFALSE", "FLOAT", "BINFLOAT")
"""Operations that bring a number, or nothing."""

SILENT = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "FRAME", "PROTO")
"""Operations that change no value."""

TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
"""Operations that make a tuple of so many values before them; TUPLE makes one of those since a mark."""

TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")

LISTS = ("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "TUPLE")

STACK = ("MARK", "STOP", "POP", "POP_MARK", "DUP", "GET", "BINGET", "LONG_BINGET")

ALLOWED = {*NUMBERS, *SILENT, *TUPLES, *TEXTS, *LISTS, *STACK}
"""Operations of plain data."""

LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""Bytes of the length that stands before an argument."""


class _Operation(NamedTuple):
    """What is to be known of an operation."""

    name: str
    num_bytes: int
    """Of its argument; pickletools' negative number where the argument says it itself."""
    is_number: bool
    is_silent: bool
    num_in_tuple: int
    """Numbers that must come before it."""


def _operation(operation: pickletools.OpcodeInfo) -> _Operation:
    name = operation.name
    num_bytes = 0 if operation.arg is None else operation.arg.n
    return _Operation(name, num_bytes, name in NUMBERS, name in SILENT, TUPLES.get(name, 0))


OPERATIONS = {ord(one.code): _operation(one) for one in pickletools.opcodes if one.name in ALLOWED}
"""Operations that are allowed, by their byte."""


class NotPlainError(Exception):
    """A pickle holds something else than plain data, or is none."""


class PlainUnpickler(pickle.Unpickler):
    """Refuses what would run anything: a second wall, behind the look at every operation."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse a function or class."""
        raise NotPlainError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse what lies outside of the file."""
        raise NotPlainError("it asks for something outside of the file")


def load_plain(content: bytes) -> Any:
    """Return what a pickle holds.

    Raises:
        NotPlainError: it holds something else than plain data, or is none.
    """
    _look_over(content)
    try:
        return PlainUnpickler(io.BytesIO(content)).load()
    except NotPlainError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # of bytes that are no pickle, any
        raise NotPlainError(f"it is no pickle, or is cut short ({error})") from error


def _look_over(content: bytes) -> None:
    """Refuse operations that bring more than plain data, memory without measure, or tuples of more than numbers."""
    at, end = 0, len(content)
    numbers, is_after_mark = 0, False  # how many come in a row before this operation, and whether a mark before them
    while at < end:
        operation = OPERATIONS.get(content[at])
        if operation is None:
            raise NotPlainError(f"it holds {_named(content[at])} at byte {at:,}, which is no plain data")
        name, num_bytes, is_number, is_silent, num_in_tuple = operation
        if num_bytes < 0:
            num_bytes = _num_bytes(content, at + 1, num_bytes)
        if is_number:
            numbers += 1
        elif not is_silent:
            if name == "STOP":
                return
            if numbers < num_in_tuple or (name == "TUPLE" and not is_after_mark):
                raise NotPlainError(f"it holds a tuple of more than numbers at byte {at:,}")
            numbers, is_after_mark = 0, name == "MARK"
        elif name in ("PUT", "LONG_BINPUT") and _memo_index(content[at : at + 1 + num_bytes]) > end:
            raise NotPlainError("it asks for far more memory than it has bytes")
        at += 1 + num_bytes
    raise NotPlainError("it is no pickle, or is cut short")


def _named(code: int) -> str:
    """Return what an operation is called that is not allowed."""
    return next((one.name for one in pickletools.opcodes if ord(one.code) == code), "bytes")


def _num_bytes(content: bytes, at: int, kind: int) -> int:
    """Return the bytes of an argument that says itself how long it is, or ends with its line."""
    if kind == pickletools.UP_TO_NEWLINE:
        line_end = content.find(b"\n", at)
        return line_end + 1 - at if line_end >= 0 else len(content)
    size = LENGTH_BYTES[kind]
    return size + int.from_bytes(content[at : at + size], "little")


def _memo_index(put: bytes) -> int:
    """Return where a value is kept, a number of four bytes or a line; of a line that is no number what is too far."""
    if put[:1] == b"r":
        return int.from_bytes(put[1:], "little")
    line = put[1:].strip()
    return int(line) if line.isdigit() and len(line) < 20 else sys.maxsize
