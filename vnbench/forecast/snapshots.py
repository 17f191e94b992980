"""Memory snapshots of torch, as ``torch.cuda.memory._dump_snapshot`` writes them, read as data and never as code.

A snapshot holds the state at its end and the events before it, of which a ring buffer keeps the last. What was there
when they began is found by undoing them from the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vnbench.errors import InputError
from vnbench.forecast.allocator import SMALL_BYTES
from vnbench.forecast.plain_pickle import NotPlainError, load_plain
from vnbench.forecast.rows import BLOCKS, GIVEN_BACK, TAKEN, joined, refuse, whole, with_first_pages
from vnbench.forecast.settings import EXPANDABLE, NAMED, NATIVE, AllocatorSettings, parse_conf
from vnbench.forecast.trace import AllocationTrace, LiveBlock, Segment
from vnbench.units import count, format_bytes

RECORD = "torch.cuda.memory._record_memory_history()"

SHARED_POOL = (0, 0)
"""Number of the pool that is of no CUDA graph and of no user's."""

PRIVATE_STREAMS = 2**64
"""From here on are the streams that stand for a pool of its own, which shares with no other, and a stream."""

OTHERS = ("oom", "snapshot", "user_defined", "workspace_snapshot")
"""Events that change nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """One event."""

    action: str
    address: int
    size: int
    stream: int


@dataclass(kw_only=True, slots=True)
class _State:
    """What was there at some moment, from the end of the events backwards."""

    live: dict[int, LiveBlock] = field(default_factory=dict)
    """By address; those that another stream still uses are among them."""
    waiting: set[int] = field(default_factory=set)
    """Addresses of those whose freeing was asked for."""
    segments: dict[int, Segment] = field(default_factory=dict)
    """Segments, and mapped ranges of expandable ones, by address."""


def trace_of_snapshot(content: bytes, path: Path, *, device_index: int | None) -> AllocationTrace:
    """Return the trace of one device; without an index of the only one that has events.

    Raises:
        InputError: it is no snapshot, holds code, is torn, has no events, or has those of several devices.
    """
    snapshot = _unpickled(content, path)
    traces, segments = _parts(snapshot, path)
    device = _device(traces, segments, path, asked=device_index)
    streams: dict[tuple[tuple[int, ...], int], int] = {}
    entries = [_entry(row, f"device_traces[{device}][{i}]", path, streams) for i, row in enumerate(traces[device])]
    state = _end_state([row for row in segments if _device_of(row, path) == device], path, streams)
    settings, text = _settings(snapshot, entries, segments)
    reserved = [sum(segment.size for segment in state.segments.values())]
    for entry in reversed(entries):
        _undo(entry, state)
        sign = (entry.action in GIVEN_BACK) - (entry.action in TAKEN)
        reserved.append(reserved[-1] + sign * entry.size)
    return AllocationTrace(
        events=tuple(joined(_rows(entries, state))),
        live_at_start=tuple(state.live.values()),
        segments_at_start=tuple(
            with_first_pages(
                _with_pools(state, entries, settings),
                (entry.address for entry in entries if entry.action == "segment_map"),
            )
        ),
        settings=settings,
        settings_text=text,
        peak_reserved_bytes=max(reserved),
        num_segments=sum(entry.action in TAKEN for entry in entries),
        notes=tuple(_notes(state, entries, streams, device=device, num_devices=len(traces))),
    )


def _unpickled(content: bytes, path: Path) -> Any:
    try:
        return load_plain(content)
    except NotPlainError as error:
        raise InputError(
            str(path),
            allowed=f"it is no snapshot of torch, which holds plain data alone: {error}",
            remedy="copy it again, or write it anew with torch.cuda.memory._dump_snapshot",
        ) from error


def _parts(snapshot: Any, path: Path) -> tuple[list[list[Any]], list[Any]]:
    """Return the events by device, and the segments of all."""
    if not isinstance(snapshot, dict):
        snapshot = {"segments": snapshot}  # as torch.cuda.memory_snapshot returns them
    segments, traces = snapshot.get("segments"), snapshot.get("device_traces", [])
    if not isinstance(segments, list):
        refuse(path, "'segments'", "must be a list of segments; a snapshot of torch has one")
    if not isinstance(traces, list) or not all(isinstance(trace, list) for trace in traces):
        refuse(path, "'device_traces'", "must be a list of events for each device")
    return traces, segments


def _device(traces: list[list[Any]], segments: list[Any], path: Path, *, asked: int | None) -> int:
    with_events = [number for number, trace in enumerate(traces) if trace]
    if not with_events:
        raise InputError(
            str(path),
            allowed=f"it holds {count(len(segments), 'segment')} and no events: it was recorded without {RECORD}",
            remedy=f"call {RECORD} before the steps, and dump it again",
        )
    if asked is None and len(with_events) == 1:
        return with_events[0]
    told = ", ".join(f"{number} ({len(traces[number]):,})" for number in with_events)
    if asked is None or asked not in with_events:
        raise InputError(
            "--device-index",
            "" if asked is None else str(asked),
            allowed=f"{path} holds events of device {told}",
            remedy=f"write --device-index {with_events[0]}",
        )
    return asked


def _device_of(row: Any, path: Path) -> int:
    if not isinstance(row, dict):
        refuse(path, "'segments'", "must hold dictionaries")
    return whole(row.get("device", 0), "segments: device", path)


def _entry(row: Any, place: str, path: Path, streams: dict[tuple[tuple[int, ...], int], int]) -> _Entry:
    action = row.get("action") if isinstance(row, dict) else None
    if action in OTHERS:
        return _Entry(action=action, address=0, size=0, stream=0)
    if action not in (*BLOCKS, *GIVEN_BACK, *TAKEN):
        refuse(
            path, place, f"must be an event with an action of {', '.join((*BLOCKS[2:], *GIVEN_BACK, *TAKEN))}, alloc"
        )
    return _Entry(
        action=action,
        address=whole(row.get("addr"), f"{place}: addr", path),
        size=whole(row.get("size"), f"{place}: size", path),
        stream=_stream(row, "pool_id", place, path, streams),
    )


def _stream(
    row: Mapping[str, Any], key: str, place: str, path: Path, streams: dict[tuple[tuple[int, ...], int], int]
) -> int:
    """Return the stream, or of a pool that shares with no other the number that stands for both."""
    stream = whole(row.get("stream", 0), f"{place}: stream", path)
    pool = row.get(key, SHARED_POOL)
    if not isinstance(pool, tuple | list):
        refuse(path, f"{place}: {key}", "must be a pair of numbers")
    numbers = tuple(whole(number, f"{place}: {key}", path) for number in pool)
    if numbers == SHARED_POOL:
        return stream
    return streams.setdefault((numbers, stream), PRIVATE_STREAMS + len(streams))


def _end_state(rows: Iterable[Any], path: Path, streams: dict[tuple[tuple[int, ...], int], int]) -> _State:
    """Return what the snapshot says of its own moment."""
    state = _State()
    for number, row in enumerate(rows):
        place = f"segments[{number}]"
        address = at = whole(row.get("address"), f"{place}: address", path)
        state.segments[address] = Segment(
            address=address,
            size=whole(row.get("total_size"), f"{place}: total_size", path),
            is_small=row.get("segment_type") == "small",
            stream=_stream(row, "segment_pool_id", place, path, streams),
        )
        blocks = row.get("blocks")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            refuse(path, f"{place}: blocks", "must be a list of blocks")
        for block in blocks:
            size = whole(block.get("size"), f"{place}: blocks: size", path)
            requested = whole(block.get("requested_size", size), f"{place}: blocks: requested_size", path)
            is_waiting = block.get("state") in ("active_pending_free", "active_awaiting_free")
            if is_waiting or block.get("state") == "active_allocated":
                state.live[at] = LiveBlock(address=at, requested=requested, size=size)
                state.waiting |= {at} if is_waiting else set()
            at += size
    return state


def _undo(entry: _Entry, state: _State) -> None:
    """Take the state back to what it was before an event."""
    address = entry.address
    if entry.action == "alloc":
        state.live.pop(address, None)
        state.waiting.discard(address)
    elif entry.action in ("free", "free_completed"):
        state.live[address] = LiveBlock(address=address, requested=entry.size, size=None)
        if entry.action == "free_completed":
            state.waiting.add(address)
    elif entry.action == "free_requested":
        # Without its completion, as where the events end between both, the block is among those at the end.
        state.waiting.discard(address)
    elif entry.action == "segment_alloc":
        state.segments.pop(address, None)
    elif entry.action == "segment_free":
        state.segments[address] = Segment(address=address, size=entry.size, is_small=None, stream=entry.stream)
    elif entry.action == "segment_map":
        _cut(state.segments, address, address + entry.size)
    elif entry.action == "segment_unmap":
        state.segments[address] = Segment(address=address, size=entry.size, is_small=None, stream=entry.stream)


def _cut(segments: dict[int, Segment], start: int, end: int) -> None:
    """Take the pages between two addresses out of the mapped ranges."""
    for one in list(segments.values()):
        behind = one.address + one.size
        if one.address < end and behind > start:
            del segments[one.address]
            for low, high in ((one.address, start), (end, behind)):
                if low < high:
                    segments[low] = Segment(address=low, size=high - low, is_small=one.is_small, stream=one.stream)


def _with_pools(state: _State, entries: Iterable[_Entry], settings: AllocatorSettings) -> Iterator[Segment]:
    """Yield the segments at the start, each with its pool, which of a mapped range that was unmapped later nobody says.

    It is small where the range is no whole pages of the other pool; else the nearest block tells.
    """
    if not settings.expandable_segments:
        yield from state.segments.values()
        return
    sizes = {one.address: settings.rounded(one.requested) for one in state.live.values()}
    sizes |= {entry.address: settings.rounded(entry.size) for entry in entries if entry.action == "alloc"}
    known = sorted(sizes)
    for one in state.segments.values():
        at = bisect_left(known, one.address)
        if one.is_small is not None:
            yield one
        elif one.size % settings.large_segment_bytes or not known:
            yield replace(one, is_small=one.size % settings.large_segment_bytes != 0)
        else:
            near = min(known[max(at - 1, 0) : at + 1], key=lambda address: abs(address - one.address))
            yield replace(one, is_small=sizes[near] <= SMALL_BYTES)


def _rows(entries: list[_Entry], start: _State) -> Iterator[tuple[str, int, int, int]]:
    """Yield the events in the order of the run; a free that is completed at once is one event."""
    for address in sorted(start.waiting):
        yield "free_requested", address, 0, 0
    is_skipped = False
    for entry, behind in zip(entries, [*entries[1:], None], strict=True):
        if is_skipped:
            is_skipped = False
            continue
        if entry.action == "free_requested" and behind is not None and behind.action == "free_completed":
            is_skipped = behind.address == entry.address
        yield ("free" if is_skipped else entry.action), entry.address, entry.size, entry.stream


def _settings(
    snapshot: Any, entries: Iterable[_Entry], segments: Iterable[Mapping[str, Any]]
) -> tuple[AllocatorSettings, str]:
    """Return the settings of the recording and what they are called; old snapshots do not say them."""
    said = snapshot.get("allocator_settings") if isinstance(snapshot, dict) else None
    said = said if isinstance(said, dict) else {}
    is_expandable = said.get("expandable_segments") is True or any(
        entry.action in ("segment_map", "segment_unmap") for entry in entries
    )
    is_expandable = is_expandable or any(row.get("is_expandable") is True for row in segments)
    name = EXPANDABLE if is_expandable else NATIVE
    text = said.get("PYTORCH_CUDA_ALLOC_CONF")
    if isinstance(text, str) and text.strip() and len(text) < 1000 and text.isprintable():
        try:
            settings = parse_conf(text, "")
        except InputError:
            return NAMED[name], name
        if settings.expandable_segments == is_expandable:
            return settings, name if settings == NAMED[name] else text.strip()
    return NAMED[name], name


def _notes(
    state: _State, entries: list[_Entry], streams: Mapping[Any, int], *, device: int, num_devices: int
) -> Iterator[str]:
    if num_devices > 1:
        yield f"Device {device} is told of; it has {len(entries):,} events."
    if state.live:
        alive = sum(one.requested for one in state.live.values())
        yield (
            f"When the recording began {count(len(state.live), 'block')} of {format_bytes(alive)} were alive; what the "
            "run took before is not in it."
        )
    if any(entry.action == "oom" for entry in entries):
        yield "The run was out of memory in the recording: what it would have asked for afterwards is not in it."
    if streams:
        yield (
            f"{count(len(streams), 'pool')} of CUDA graphs or of the user's own share with no other, as pools of a "
            "stream do; that they are kept until their graph ends is not replayed."
        )
