"""Define the types of numbers in records, with their limits.

Records declare their fields with these types, and msgspec checks what it reads against them. Integers stay integers and
floats stay floats, so that a record is written as it was read. ``true`` is not a number, and JSON has no NaN.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

LARGEST_NUMBER = 10**18
"""Largest number of seconds, bytes or pixels: beyond the age of the universe, or an exabyte."""

_POSITIVE = msgspec.Meta(ge=0, le=LARGEST_NUMBER)
_SIGNED = msgspec.Meta(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)

Count = Annotated[int, _POSITIVE]
"""A count, or an index from 0."""
Pixels = Annotated[int, _POSITIVE]
"""A side or an area in pixels."""
Bytes = Annotated[int, _POSITIVE]
"""Memory in bytes."""
SignedBytes = Annotated[int, _SIGNED]
"""A difference of memory in bytes."""
Seconds = Annotated[int, _POSITIVE] | Annotated[float, _POSITIVE]
"""A checked duration in seconds: the clock did not step backwards."""
SignedSeconds = Annotated[int, _SIGNED] | Annotated[float, _SIGNED]
"""A difference of times in seconds; negative if the clock stepped backwards."""
Ratio = Annotated[int, msgspec.Meta(ge=0)] | Annotated[float, msgspec.Meta(ge=0)]
"""A share, or a relative error; at least 0, without an upper limit."""
Number = Annotated[int, _SIGNED] | Annotated[float, _SIGNED]
"""Any number from -LARGEST_NUMBER to LARGEST_NUMBER."""


def refusal(error: Exception, *, where: str = "") -> str:
    """Return an error of msgspec as ``FIELD: REASON``, where FIELD is a path that begins with ``where``."""
    reason, _, path = str(error).partition(" - at `$")
    field = f"{where}{path.rstrip('`')}".lstrip(".")
    told = reason if reason.startswith("JSON") else reason[:1].lower() + reason[1:]
    return f"{field}: {told}" if field else told
