"""What a value of a record may be: numbers that could have been measured, in their units, and how others are refused.

Records declare their fields by these types, and msgspec holds what it reads against them. Whole numbers stay whole and
others stay as they are, so that a record is written as it was read; ``true`` is neither. JSON knows no NaN.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

LARGEST_NUMBER = 10**18
"""Seconds, bytes and pixels above this are none: the age of the universe, an exabyte."""

_POSITIVE = msgspec.Meta(ge=0, le=LARGEST_NUMBER)
_SIGNED = msgspec.Meta(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)

Count = Annotated[int, _POSITIVE]
"""How many, or the how manieth from 0."""
Pixels = Annotated[int, _POSITIVE]
"""Pixels: a side, or an area."""
Bytes = Annotated[int, _POSITIVE]
"""Memory in bytes."""
SignedBytes = Annotated[int, _SIGNED]
"""A difference of memory in bytes."""
Seconds = Annotated[int, _POSITIVE] | Annotated[float, _POSITIVE]
"""A duration in seconds that was checked: no clock stepped backwards in it."""
SignedSeconds = Annotated[int, _SIGNED] | Annotated[float, _SIGNED]
"""A difference of times in seconds; below 0 where a clock stepped backwards."""
Ratio = Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0)]
"""A part of a whole, or an error relative to a value: without a largest one."""
Number = Annotated[int, _SIGNED] | Annotated[float, _SIGNED]
"""Any number that is not beyond LARGEST_NUMBER."""


def refusal(error: Exception, *, where: str = "") -> str:
    """Return what msgspec refused as ``FIELD: REASON``, the field by its path, which begins with ``where``."""
    reason, _, path = str(error).partition(" - at `$")
    field = f"{where}{path.rstrip('`')}".lstrip(".")
    told = reason if reason.startswith("JSON") else reason[:1].lower() + reason[1:]
    return f"{field}: {told}" if field else told
