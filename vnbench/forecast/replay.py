"""A recorded run again, under other settings of the allocator and with another memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vnbench.forecast.allocator import ENDLESS, SMALL_BYTES, SMALL_SEGMENT_BYTES, CachingAllocator, OutOfMemory
from vnbench.forecast.blocks import Block, Range
from vnbench.forecast.settings import MIN_BLOCK_BYTES, AllocatorSettings
from vnbench.forecast.trace import AllocationTrace, LiveBlock, Segment

ADDRESS_STEP = 2**21
"""Segments begin at multiples of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What a run takes under some settings, up to its end or to where memory runs out."""

    peak_allocated_bytes: int
    """Most bytes of blocks in use."""
    peak_reserved_bytes: int
    """Most bytes taken from the driver."""
    num_segments: int
    """Segments taken from the driver while the events ran; of expandable ones, how often pages were mapped."""
    num_retries: int
    """How often the driver had too little, the cache was given back, and it was asked again."""
    fits: bool
    """Whether it reaches its end."""
    failed_at_event: int | None = None
    """Event, counted from 0, whose memory there is not; -1 where what was alive at the start is too much."""
    failed_bytes: int | None = None
    """Bytes that this event asks for."""
    num_lost_events: int = 0
    """Frees of what was never allocated, and allocations where something is alive: the recording lost events."""


def taken_by(allocator: CachingAllocator, *, fits: bool) -> Replayed:
    """Return what an allocator took."""
    return Replayed(
        peak_allocated_bytes=allocator.peak_allocated_bytes,
        peak_reserved_bytes=allocator.peak_reserved_bytes,
        num_segments=allocator.num_segments,
        num_retries=allocator.num_retries,
        fits=fits,
    )


def replay(
    trace: AllocationTrace, settings: AllocatorSettings, *, capacity: int | None = None, total: int | None = None
) -> Replayed:
    """Return what the run takes under ``settings``.

    Under the settings of the recording it begins with the segments that were there; under others, with what was alive,
    allocated afresh in the order of addresses. ``capacity`` is what the driver has for the allocator, ``total`` the
    memory of the whole card, on which limits and address spaces depend; None is without an end.
    """
    ends = [segment.address + segment.size for segment in trace.segments_at_start]
    allocator = CachingAllocator(
        settings,
        capacity=ENDLESS if capacity is None else capacity,
        total=total,
        first_address=-(-max(ends, default=0) // ADDRESS_STEP) * ADDRESS_STEP,
    )
    lost, at, requested = 0, -1, 0
    tickets: dict[int, int] = {}
    try:
        blocks = _begin(trace, allocator)
        allocator.num_segments = 0
        for at, (action, address, requested, stream) in enumerate(trace.events):  # noqa: B007
            if action == "alloc":
                if address in blocks:
                    lost += 1
                    allocator.free(blocks.pop(address))
                if requested > 0:
                    blocks[address] = allocator.allocate(requested, stream=stream)
            elif action == "empty_cache":
                allocator.empty_cache()
            elif address not in blocks:
                lost += 1
            elif action == "free":
                allocator.free(blocks.pop(address))
            elif action == "free_requested":
                tickets[address] = allocator.request_free(blocks[address])
            else:
                allocator.complete_free(blocks.pop(address), tickets.pop(address, 0))
    except OutOfMemory:
        fits = False
    else:
        fits = True
    return replace(
        taken_by(allocator, fits=fits),
        failed_at_event=None if fits else at,
        failed_bytes=None if fits else requested,
        num_lost_events=lost,
    )


def _begin(trace: AllocationTrace, allocator: CachingAllocator) -> dict[int, Block]:
    """Return the blocks that were alive when the recording began, by their recorded addresses."""
    blocks: dict[int, Block] = {}
    live_in, elsewhere = _by_segment(trace)
    if allocator.settings == trace.settings:
        groups: dict[tuple[bool, int, int], list[tuple[Segment, list[LiveBlock]]]] = defaultdict(list)
        for number, (segment, live) in enumerate(live_in):
            # The mapped ranges of a pool and a stream are one expandable segment.
            key = (_is_small(segment, live, trace.settings), segment.stream)
            groups[*key, 0 if trace.settings.expandable_segments else number].append((segment, live))
        for (is_small, stream, _), members in groups.items():
            ranges: list[Range] = []
            end = members[0][0].address
            for segment, live in members:
                if segment.address > end:
                    ranges.append(Range(end, segment.address - end, is_mapped=False))
                ranges += _ranges(segment, live, settings=trace.settings, is_small=is_small)
                end = segment.address + segment.size
            if ranges:
                blocks |= allocator.adopt(ranges, is_small=is_small, stream=stream)
        if allocator.reserved_bytes > allocator.capacity:
            # A run with this memory would have given its cache back before.
            allocator.empty_cache()
            allocator.num_retries += 1
            allocator.peak_reserved_bytes = allocator.reserved_bytes
            if allocator.reserved_bytes > allocator.capacity:
                raise OutOfMemory
        afresh = [(one, 0) for one in elsewhere]
    else:
        afresh = [(one, segment.stream) for segment, live in live_in for one in live]
        afresh += [(one, 0) for one in elsewhere]
    for one, stream in afresh:
        if one.requested > 0:
            blocks[one.address] = allocator.allocate(one.requested, stream=stream)
    return blocks


def _by_segment(trace: AllocationTrace) -> tuple[list[tuple[Segment, list[LiveBlock]]], list[LiveBlock]]:
    """Return each segment with what is alive in it, both in the order of addresses, and what is in none."""
    segments = sorted(trace.segments_at_start, key=lambda segment: segment.address)
    if trace.settings.expandable_segments:
        segments = list(_whole_ranges(segments))
    starts = [segment.address for segment in segments]
    members: list[list[LiveBlock]] = [[] for _ in segments]
    elsewhere: list[LiveBlock] = []
    for one in sorted(trace.live_at_start, key=lambda one: one.address):
        at = bisect_right(starts, one.address) - 1
        is_inside = at >= 0 and one.address < segments[at].address + segments[at].size
        (members[at] if is_inside else elsewhere).append(one)
    return list(zip(segments, members, strict=True)), elsewhere


def _whole_ranges(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Yield mapped ranges, those that follow each other in a pool and a stream as one: a block may lie in both."""
    last: Segment | None = None
    for one in segments:
        if last is None or last.address + last.size < one.address or not _is_alike(last, one):
            if last is not None:
                yield last
            last = one
        else:
            is_small = last.is_small if one.is_small is None else one.is_small
            last = replace(last, size=one.address + one.size - last.address, is_small=is_small)
    if last is not None:
        yield last


def _is_alike(one: Segment, other: Segment) -> bool:
    pools = {one.is_small, other.is_small}
    return one.stream == other.stream and (len(pools) == 1 or None in pools)


def _is_small(segment: Segment, live: Iterable[LiveBlock], settings: AllocatorSettings) -> bool:
    """Return whether a segment belongs to the small pool, which a recording need not say."""
    if segment.is_small is not None:
        return segment.is_small
    sizes = (settings.rounded(one.requested) if one.size is None else one.size for one in live)
    return segment.size == SMALL_SEGMENT_BYTES and all(size <= SMALL_BYTES for size in sizes)


def _ranges(segment: Segment, live: list[LiveBlock], *, settings: AllocatorSettings, is_small: bool) -> Iterator[Range]:
    """Yield what a segment is made of.

    A block whose bytes nobody wrote down takes what follows it where that is too little to be split off.
    """
    most = MIN_BLOCK_BYTES - 1 if is_small or settings.expandable_segments else SMALL_BYTES
    max_split = settings.max_split_bytes
    end = segment.address
    limits = [*(one.address for one in live), segment.address + segment.size]
    for one, limit in zip(live, limits[1:], strict=True):
        if one.address > end:
            yield Range(end, one.address - end)
        size = settings.rounded(one.requested) if one.size is None else one.size
        room = limit - one.address
        if one.size is None and (room - size <= most or (max_split is not None and size >= max_split)):
            size = room
        end = one.address + min(size, room)
        yield Range(one.address, end - one.address, is_in_use=True)
    if limits[-1] > end:
        yield Range(end, limits[-1] - end)
