"""A recording of allocations as it lies in a file: a snapshot of torch, or plain events; compressed or not."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vnbench.errors import InputError, readable
from vnbench.forecast.events import trace_of_events
from vnbench.forecast.snapshots import trace_of_snapshot
from vnbench.forecast.trace import AllocationTrace
from vnbench.texts import check_regular, unpacked

MOST_BYTES = 2**31
"""Largest file that is read: a snapshot of a million events with the stacks of each has about half of it."""

ROOM_BYTES = 2**30
"""Memory that a file may take whatever its size ..."""

ROOM_PER_BYTE = 64
"""... and for each of its bytes: an event of 30 takes about 500 as dictionaries and numbers."""

STATM = Path("/proc/self/statm")
"""Pages that the process has mapped, first."""


def read_recording(path: Path, *, where: str, device_index: int | None = None) -> AllocationTrace:
    """Return the trace in a file; ``where`` is the option that names it.

    Raises:
        InputError: it cannot be read, or is no recording.
    """
    check_regular(path)
    with readable(where):
        size = path.stat().st_size
        content = path.read_bytes() if size <= MOST_BYTES else b""
    if not content:
        told = "it is empty" if not size else "it is larger than 2 GiB"
        raise InputError(where, path, allowed=told, remedy="record the last events: max_entries=100_000")
    try:
        with _limited_memory(size):
            content = unpacked(content, path)
        with _limited_memory(len(content)):
            if content.lstrip()[:1] in (b"{", b"["):
                return trace_of_events(content, path)
            return trace_of_snapshot(content, path, device_index=device_index)
    except MemoryError as error:
        raise InputError(
            where, path, allowed="it takes far more memory than a recording of its size", remedy="write it anew"
        ) from error


@contextmanager
def _limited_memory(size: int) -> Iterator[None]:
    """Leave the process what a recording of this size can need: a few bytes of a file can ask for all memory."""
    if not STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limit = held + ROOM_BYTES + ROOM_PER_BYTE * size
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
