"""What recordings of either kind share: the words for events, and the refusal of what is none."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from vnbench.errors import InputError
from vnbench.forecast.trace import Event, Segment

LARGEST = 2**64
"""No address, no number of bytes and no stream reaches it."""

GIVEN_BACK = ("segment_free", "segment_unmap")
"""Those that follow each other are one emptying of the cache."""

TAKEN = ("segment_alloc", "segment_map")
"""What a replay has to bring about by itself."""

BLOCKS = ("alloc", "free", "free_requested", "free_completed")
"""What the run did."""


def joined(rows: Iterable[tuple[str, int, int, int]]) -> Iterator[Event]:
    """Yield what a replay is given: what the run did, and an emptying where segments were given back in a row."""
    last = ""
    for action, address, size, stream in rows:
        if action in BLOCKS:
            yield action, address, size, stream  # type: ignore[misc]
        elif action in GIVEN_BACK and last not in GIVEN_BACK:
            yield "empty_cache", 0, 0, 0
        last = action


def with_first_pages(segments: Iterable[Segment], mapped: Iterable[int]) -> list[Segment]:
    """Return mapped ranges with an empty one where pages of their segment came later, before the first that it had.

    Pages are mapped at the lowest address that there is. An address that was ``mapped`` is of the segment to which it
    lies nearest: the driver keeps segments apart by more than they can grow.
    """
    ranges = sorted(segments, key=lambda one: one.address)
    starts = [one.address for one in ranges]
    for address in mapped:
        at = bisect_right(starts, address)
        above = ranges[at] if at < len(ranges) else None
        below = ranges[at - 1] if at else None
        if above is not None and (below is None or above.address - address < address - below.address - below.size):
            ranges.insert(at, replace(above, address=address, size=0))
            starts.insert(at, address)
    return ranges


def whole(value: Any, place: str, path: Path) -> int:
    """Return a whole number from 0 on.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST:
        # A list may hold itself, and be told without an end; a number may have more digits than Python tells.
        is_told = isinstance(value, str | float | bool | None) or (isinstance(value, int) and abs(value) < 2**100)
        told = repr(value)[:40] if is_told else f"what is of type {type(value).__name__}"
        refuse(path, place, f"holds {told} where a whole number from 0 on is needed")
    return value


def refuse(path: Path, place: str, allowed: str) -> NoReturn:
    """Refuse a file that is no recording."""
    raise InputError(str(path), place, allowed=allowed, remedy="mend the file, or make it anew")
