"""Plain event files: the allocations of a run as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from vnbench.errors import InputError
from vnbench.forecast.rows import BLOCKS, GIVEN_BACK, TAKEN, joined, refuse, whole, with_first_pages
from vnbench.forecast.settings import EXPANDABLE, NAMED, NATIVE
from vnbench.forecast.trace import AllocationTrace, LiveBlock, Segment
from vnbench.texts import decoded


def trace_of_events(content: bytes, path: Path) -> AllocationTrace:
    """Return the trace of an event file, whose content is unpacked.

    It is an object with ``events`` and, where something was there before, ``live_at_start`` and ``segments_at_start``.

    Raises:
        InputError: it is no such file.
    """
    try:
        value = json.loads(decoded(content))
    except (ValueError, RecursionError) as error:
        raise InputError(
            str(path), allowed=f"this is no JSON ({error})", remedy="write it anew, or copy it again"
        ) from error
    if not isinstance(value, dict):
        refuse(path, "the file", "must be an object with a list under 'events'")
    rows = _rows(value, "events", path, is_needed=True)
    segments = [
        _segment(row, f"segments_at_start[{i}]", path) for i, row in _numbered(value, "segments_at_start", path)
    ]
    live = [_live(row, f"live_at_start[{i}]", path) for i, row in _numbered(value, "live_at_start", path)]
    _refuse_overlaps([(one.address, one.size) for one in segments], "segments_at_start", path)
    _refuse_overlaps([(one.address, max(one.requested, 1)) for one in live], "live_at_start", path)
    mapped = [row[1] for row in rows if isinstance(row, list) and row[:1] == ["segment_map"] and len(row) > 1]
    name = EXPANDABLE if mapped else NATIVE
    return AllocationTrace(
        events=tuple(joined(_event(row, f"events[{i}]", path) for i, row in enumerate(rows))),
        live_at_start=tuple(live),
        segments_at_start=tuple(with_first_pages(segments, (whole(one, "segment_map", path) for one in mapped))),
        settings=NAMED[name],
        settings_text=name,
        peak_reserved_bytes=_optional(value.get("peak_reserved_bytes"), "peak_reserved_bytes", path),
        num_segments=_optional(value.get("num_segments_taken"), "num_segments_taken", path),
    )


def _numbered(value: dict[str, Any], key: str, path: Path) -> Iterable[tuple[int, Any]]:
    return enumerate(_rows(value, key, path))


def _rows(value: dict[str, Any], key: str, path: Path, *, is_needed: bool = False) -> list[Any]:
    rows = value.get(key)
    if rows is None and not is_needed:
        return []
    if not isinstance(rows, list):
        refuse(path, repr(key), "must be a list" if key in value else "is missing")
    return rows


def _event(row: Any, place: str, path: Path) -> tuple[str, int, int, int]:
    action, *numbers = row if isinstance(row, list) and row else [None]
    if action not in (*BLOCKS, *GIVEN_BACK, *TAKEN):
        refuse(path, place, f"must begin with one of {', '.join((*BLOCKS, *GIVEN_BACK, *TAKEN))}")
    if action in GIVEN_BACK or action in TAKEN:
        return action, 0, 0, 0
    needed = 2 if action == "alloc" else 1
    if len(numbers) < needed:
        refuse(path, place, "is too short: alloc has an address, bytes and a stream, others an address")
    address = whole(numbers[0], place, path)
    if action != "alloc":
        return action, address, 0, 0
    stream = _optional(numbers[2] if len(numbers) > 2 else None, place, path)
    return action, address, whole(numbers[1], place, path), stream or 0


def _segment(row: Any, place: str, path: Path) -> Segment:
    if not isinstance(row, list) or len(row) < 2:
        refuse(path, place, "must be [address, bytes, whether it is small or null, stream]")
    is_small, stream, *_ = [*row[2:], None, None]
    if is_small is not None and not isinstance(is_small, bool):
        refuse(path, place, "has in its third place neither true, false nor null")
    address, size = whole(row[0], place, path), whole(row[1], place, path)
    return Segment(address=address, size=size, is_small=is_small, stream=_optional(stream, place, path) or 0)


def _live(row: Any, place: str, path: Path) -> LiveBlock:
    if not isinstance(row, list) or len(row) < 2:
        refuse(path, place, "must be [address, requested bytes, bytes of the block or null]")
    size = _optional(row[2] if len(row) > 2 else None, place, path)
    return LiveBlock(address=whole(row[0], place, path), requested=whole(row[1], place, path), size=size)


def _optional(value: Any, place: str, path: Path) -> int | None:
    return None if value is None else whole(value, place, path)


def _refuse_overlaps(ranges: list[tuple[int, int]], place: str, path: Path) -> None:
    for (start, size), (behind, _) in pairwise(sorted(ranges)):
        if start + size > behind:
            refuse(path, place, f"has two ranges that overlap at address {behind}")
