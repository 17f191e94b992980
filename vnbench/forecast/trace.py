"""What a run asked of the allocator, in order, and what was there when the recording began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vnbench.forecast.settings import NAMED, NATIVE, AllocatorSettings

Action = Literal["alloc", "free", "free_requested", "free_completed", "empty_cache"]

Event = tuple[Action, int, int, int]
"""(action, address, requested bytes, stream); bytes and stream are 0 where the action has none.

``free`` is both other frees at once; these are apart where another stream still uses the block.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveBlock:
    """An allocation that was alive when the recording began."""

    address: int
    requested: int
    """Bytes asked for."""
    size: int | None
    """Bytes of its block; None where nobody wrote them down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """What the allocator had taken when the recording began: a segment, or a mapped range of an expandable one."""

    address: int
    size: int
    is_small: bool | None
    """Whether it belongs to the small pool; None where nobody wrote it down."""
    stream: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AllocationTrace:
    """The allocations of a run on one card."""

    events: tuple[Event, ...]
    live_at_start: tuple[LiveBlock, ...] = ()
    segments_at_start: tuple[Segment, ...] = ()
    settings: AllocatorSettings = NAMED[NATIVE]
    """Those under which it was recorded."""
    settings_text: str = NATIVE
    """What they are called."""
    peak_reserved_bytes: int | None = None
    """What the real allocator reserved at most, where it is known."""
    num_segments: int | None = None
    """Segments that the real allocator took while the events ran, where it is known."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the recording."""
