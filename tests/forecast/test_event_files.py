from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vnbench.errors import InputError
from vnbench.forecast.events import trace_of_events
from vnbench.forecast.replay import replay
from vnbench.forecast.settings import NAMED
from vnbench.forecast.trace import AllocationTrace

MIB = 2**20
PATH = Path("run.json")

NATIVE, EXPANDABLE = NAMED["native"], NAMED["expandable-segments"]


def trace(**value: Any) -> AllocationTrace:
    return trace_of_events(json.dumps({"events": [], **value}).encode(), PATH)


def test_a_replay_takes_the_segments_that_the_real_allocator_took() -> None:
    run = trace(
        events=[
            ["segment_alloc", 0, 20 * MIB],
            ["alloc", 0, 6 * MIB, 0],
            ["alloc", 6 * MIB, 13 * MIB, 0],
            ["free", 0],
            ["segment_alloc", 20 * MIB, 12 * MIB],
            ["alloc", 20 * MIB, 12 * MIB, 7],
            ["free", 20 * MIB],
            ["segment_free", 20 * MIB, 12 * MIB],
            ["alloc", 0, 2 * MIB, None],
        ],
        peak_reserved_bytes=32 * MIB,
        num_segments_taken=2,
    )
    again = replay(run, run.settings)
    assert (again.peak_reserved_bytes, again.num_segments) == (run.peak_reserved_bytes, run.num_segments)
    assert again.peak_allocated_bytes == 14 * MIB + 12 * MIB
    assert (again.fits, again.num_retries, again.num_lost_events) == (True, 0, 0)


def test_a_row_of_freed_segments_is_one_emptying_and_the_next_row_another() -> None:
    events = [["alloc", i, 12 * MIB, 0] for i in range(3)]
    run = trace(
        events=[
            *events,
            ["free", 0],
            ["segment_free", 0, 12 * MIB],
            ["free", 1],
            ["segment_free", 1, 12 * MIB],
            ["segment_free", 2, 0],
            ["alloc", 5, 12 * MIB, 0],
        ]
    )
    assert [event[0] for event in run.events].count("empty_cache") == 2
    again = replay(run, run.settings)
    assert (again.num_segments, again.peak_reserved_bytes) == (4, 36 * MIB)


def test_a_run_begins_with_what_was_there_and_takes_no_segment_that_it_has() -> None:
    start: dict[str, Any] = {
        "segments_at_start": [[100 * MIB, 20 * MIB, False, 3], [60 * MIB, 2 * MIB, None, 0]],
        "live_at_start": [[104 * MIB, 4 * MIB, 4 * MIB], [60 * MIB, 700, None]],
    }
    run = trace(events=[["alloc", 108 * MIB, 12 * MIB, 3], ["alloc", 61 * MIB, MIB, 0]], **start)
    again = replay(run, run.settings)
    assert (again.num_segments, again.peak_reserved_bytes) == (0, 22 * MIB)
    assert again.peak_allocated_bytes == 4 * MIB + 1024 + 12 * MIB + MIB
    elsewhere = trace(events=[["alloc", 1, 12 * MIB, 0]], **start)
    assert replay(elsewhere, elsewhere.settings).num_segments == 1


@pytest.mark.parametrize(
    ("live", "segment", "is_small"),
    [
        ([[0, MIB, None]], 2 * MIB, True),
        ([], 2 * MIB, True),
        ([[0, MIB + 1, None]], 2 * MIB, False),
        ([[0, 100, None]], 20 * MIB, False),
    ],
)
def test_a_segment_is_small_if_it_has_2_mib_and_holds_small_blocks_alone(
    live: list[Any], segment: int, is_small: bool
) -> None:
    free = segment - MIB - 1024
    run = trace(
        segments_at_start=[[0, segment, None, 0]],
        live_at_start=live,
        events=[["alloc", 5, 512, 0] for _ in range(free // 512 if is_small else 1)],
    )
    assert replay(run, run.settings).num_segments == (0 if is_small else 1)


@pytest.mark.parametrize(
    ("room", "size"), [(4 * MIB + 512, 4 * MIB + 512), (5 * MIB, 5 * MIB), (5 * MIB + 512, 4 * MIB)]
)
def test_a_large_block_whose_size_is_unknown_takes_up_to_1_mib_that_follows(room: int, size: int) -> None:
    run = trace(
        segments_at_start=[[0, 20 * MIB, None, 0]],
        live_at_start=[[0, 4 * MIB, None], [room, 20 * MIB - room, None]],
        events=[],
    )
    assert replay(run, run.settings).peak_allocated_bytes == size + 20 * MIB - room


def test_a_small_block_whose_size_is_unknown_leaves_512_bytes() -> None:
    run = trace(
        segments_at_start=[[0, 2 * MIB, None, 0]],
        live_at_start=[[0, 512, None], [1024, 512, None]],
        events=[["alloc", 512, 512, 0]],
    )
    assert replay(run, run.settings).peak_allocated_bytes == 3 * 512


def test_under_other_settings_what_was_alive_is_allocated_afresh() -> None:
    run = trace(
        segments_at_start=[[0, 100 * MIB, False, 0]],
        live_at_start=[[0, 2 * MIB, None], [50 * MIB, 2 * MIB, 2 * MIB]],
        events=[["free", 0], ["free", 50 * MIB], ["alloc", 0, 4 * MIB, 0]],
    )
    assert replay(run, NATIVE).peak_reserved_bytes == 100 * MIB
    again = replay(run, EXPANDABLE)
    assert (again.peak_reserved_bytes, again.num_segments, again.num_lost_events) == (20 * MIB, 0, 0)


def test_a_recording_of_mapped_pages_is_replayed_as_expandable_and_goes_on_in_its_segment() -> None:
    run = trace(
        segments_at_start=[[40 * MIB, 20 * MIB, False, 0], [80 * MIB, 20 * MIB, False, 0]],
        live_at_start=[[40 * MIB, 20 * MIB, None]],
        events=[["segment_map", 60 * MIB, 20 * MIB], ["alloc", 60 * MIB, 40 * MIB, 0], ["segment_unmap", 0, 0]],
    )
    assert run.settings == EXPANDABLE
    again = replay(run, run.settings)
    assert (again.peak_reserved_bytes, again.num_segments) == (60 * MIB, 1)


def test_pages_come_first_below_those_that_a_segment_had_where_it_begins_there() -> None:
    run = trace(
        segments_at_start=[[0, 20 * MIB, False, 1], [560 * MIB, 20 * MIB, False, 0]],
        live_at_start=[[560 * MIB, 20 * MIB, None]],
        events=[
            ["segment_map", 520 * MIB, 40 * MIB],
            ["alloc", 520 * MIB, 30 * MIB, 0],
            ["segment_map", 580 * MIB, 60 * MIB],  # behind the segment, which does not begin there
            ["alloc", 580 * MIB, 50 * MIB, 0],
        ],
    )
    again = replay(run, run.settings)
    assert (again.peak_reserved_bytes, again.num_segments) == ((20 + 20 + 40 + 60) * MIB, 2)


def test_a_block_may_lie_in_two_mapped_ranges() -> None:
    run = trace(
        segments_at_start=[[0, 20 * MIB, False, 0], [20 * MIB, 20 * MIB, None, 0]],
        live_at_start=[[10 * MIB, 25 * MIB, None]],
        events=[["segment_map", 40 * MIB, 20 * MIB], ["alloc", 40 * MIB, 15 * MIB, 0]],
    )
    again = replay(run, run.settings)
    assert (again.peak_allocated_bytes, again.peak_reserved_bytes) == (40 * MIB, 60 * MIB)


def test_a_run_that_does_not_fit_says_where_it_ends() -> None:
    run = trace(events=[["alloc", 0, 12 * MIB, 0], ["free", 0], ["alloc", 0, 30 * MIB, 0], ["alloc", 40 * MIB, 1, 0]])
    again = replay(run, NATIVE, capacity=31 * MIB)
    assert (again.fits, again.failed_at_event, again.failed_bytes) == (False, 3, 1)
    assert (again.num_retries, again.peak_reserved_bytes) == (2, 30 * MIB)


def test_a_run_whose_start_is_too_large_gives_its_cache_back_or_does_not_fit() -> None:
    start: dict[str, Any] = {
        "segments_at_start": [[0, 20 * MIB, False, 0], [20 * MIB, 30 * MIB, False, 0]],
        "live_at_start": [[0, 20 * MIB, None]],
    }
    run = trace(events=[], **start)
    assert replay(run, NATIVE).peak_reserved_bytes == 50 * MIB
    again = replay(run, NATIVE, capacity=40 * MIB)
    assert (again.fits, again.num_retries, again.peak_reserved_bytes) == (True, 1, 20 * MIB)
    again = replay(run, NATIVE, capacity=10 * MIB)
    assert (again.fits, again.failed_at_event) == (False, -1)


def test_frees_whose_allocation_was_lost_are_counted() -> None:
    run = trace(events=[["free", 77], ["alloc", 0, 5, 0], ["alloc", 0, 5, 0], ["free_requested", 3]])
    assert replay(run, NATIVE).num_lost_events == 3


def test_what_another_stream_still_uses_is_free_when_that_is_done() -> None:
    events = [["alloc", 0, 12 * MIB, 0], ["free_requested", 0], ["alloc", 1, 12 * MIB, 0], ["free_completed", 0]]
    run = trace(events=[*events, ["alloc", 0, 12 * MIB, 0]])
    again = replay(run, NATIVE)
    assert (again.num_segments, again.peak_allocated_bytes) == (2, 24 * MIB)


def value(**changes: Any) -> Any:
    return {"events": [["alloc", 0, 1, 0]], "live_at_start": [], "segments_at_start": [], **changes}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no JSON"),
        (b'{"events": [', "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"\xff\xff", "no JSON"),
        ([], "the file: must be an object"),
        ({}, "'events': is missing"),
        (value(events=None), "'events': must be a list"),
        (value(events=[[]]), "events[0]: must begin with"),
        (value(events=["alloc"]), "events[0]: must begin with"),
        (value(events=[["alloc", 0]]), "events[0]: is too short"),
        (value(events=[["free"]]), "events[0]: is too short"),
        (value(events=[["free", 0], ["alloc", 0, 1.5, 0]]), "events[1]: holds 1.5"),
        (value(events=[["alloc", 0, True, 0]]), "events[0]: holds True"),
        (value(events=[["alloc", -1, 1, 0]]), "events[0]: holds -1"),
        (value(events=[["alloc", 0, 2**64, 0]]), "events[0]: holds 18446744073709551616"),
        (value(events=[["alloc", None, 1, 0]]), "events[0]: holds None"),
        (value(events=[["alloc", 10**400, 1, 0]]), "events[0]: holds what is of type int"),
        (value(live_at_start=5), "'live_at_start': must be a list"),
        (value(live_at_start=[[0]]), "live_at_start[0]: must be [address"),
        (value(live_at_start=[[0, 5, "x"]]), "live_at_start[0]: holds 'x'"),
        (value(live_at_start=[[0, 5], [3, 5]]), "live_at_start: has two ranges that overlap at address 3"),
        (value(segments_at_start=[7]), "segments_at_start[0]: must be [address"),
        (value(segments_at_start=[[0, 5, 1, 0]]), "segments_at_start[0]: has in its third place"),
        (value(segments_at_start=[[0, 5], [3, 5]]), "segments_at_start: has two ranges that overlap at address 3"),
        (value(peak_reserved_bytes="1"), "peak_reserved_bytes: holds '1'"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_place(content: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        trace_of_events(content if isinstance(content, bytes) else json.dumps(content).encode(), PATH)
    assert told in str(caught.value)
    assert str(caught.value).startswith("run.json")
