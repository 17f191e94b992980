from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnbench.forecast.allocator import CachingAllocator, OutOfMemory
from vnbench.forecast.blocks import Block, Range
from vnbench.forecast.settings import AllocatorSettings

KIB, MIB, GIB = 2**10, 2**20, 2**30

NATIVE = AllocatorSettings()
EXPANDABLE = AllocatorSettings(expandable_segments=True)


def native(**settings: object) -> CachingAllocator:
    return CachingAllocator(replace(NATIVE, **settings))


@pytest.mark.parametrize(("requested", "size"), [(1, 512), (511, 512), (512, 512), (513, 1024), (3000, 3072)])
def test_a_block_is_a_multiple_of_512_bytes(requested: int, size: int) -> None:
    assert native().allocate(requested).size == size


@pytest.mark.parametrize(
    ("requested", "segment"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB - 511, 10 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 1, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_a_segment_is_as_large_as_the_class_of_its_block_says(requested: int, segment: int) -> None:
    allocator = native()
    allocator.allocate(requested)
    assert (allocator.reserved_bytes, allocator.num_segments) == (segment, 1)


def test_a_small_request_never_takes_a_large_block() -> None:
    allocator = native()
    allocator.free(allocator.allocate(MIB + 1))
    allocator.allocate(MIB)
    assert allocator.reserved_bytes == 22 * MIB


def test_a_segment_that_holds_large_blocks_is_as_large_as_it_is_set() -> None:
    allocator = native(large_segment_bytes=40 * MIB)
    allocator.allocate(2 * MIB)
    assert allocator.reserved_bytes == 40 * MIB


def test_a_small_block_is_split_where_512_bytes_remain() -> None:
    allocator = native()
    whole = [allocator.allocate(MIB) for _ in range(2)]
    allocator.free(whole[0])
    first = allocator.allocate(MIB - 512)
    assert first.size == MIB - 512
    assert allocator.allocate(512).address == first.address + first.size
    assert allocator.num_segments == 1


@pytest.mark.parametrize(("requested", "size"), [(11 * MIB, 12 * MIB), (11 * MIB - 512, 11 * MIB - 512)])
def test_a_large_block_is_split_where_more_than_1_mib_remains_and_counts_whole_otherwise(
    requested: int, size: int
) -> None:
    allocator = native()
    allocator.free(allocator.allocate(12 * MIB))
    assert allocator.allocate(requested).size == size
    assert allocator.allocated_bytes == size


def test_the_request_takes_the_low_end_of_the_smallest_block_that_holds_it() -> None:
    allocator = native()
    blocks = [allocator.allocate(size * MIB) for size in (40, 20, 30, 20)]
    for block in blocks:
        allocator.free(block)
    taken = allocator.allocate(15 * MIB)
    assert taken.address == blocks[1].address  # of two of 20 MiB the one at the lower address
    assert allocator.allocate(4 * MIB).address == taken.address + taken.size


def test_neighbours_merge_when_they_are_freed_in_any_order() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)):
        allocator = native()
        blocks = [allocator.allocate(6 * MIB) for _ in range(3)]
        start = blocks[0].address
        for at in order:
            allocator.free(blocks[at])
        assert allocator.allocate(18 * MIB).address == start
        assert allocator.num_segments == 1


def test_streams_share_no_block() -> None:
    allocator = native()
    allocator.free(allocator.allocate(12 * MIB, stream=1))
    allocator.allocate(12 * MIB, stream=2)
    assert allocator.num_segments == 2
    allocator.allocate(12 * MIB, stream=1)
    assert allocator.num_segments == 2


def test_a_block_that_another_stream_uses_is_not_taken_before_that_is_done() -> None:
    allocator = native()
    block = allocator.allocate(12 * MIB)
    ticket = allocator.request_free(block)
    assert allocator.request_free(block) == ticket
    assert allocator.allocated_bytes == 0
    allocator.allocate(12 * MIB)
    assert allocator.num_segments == 2
    allocator.complete_free(block, ticket)
    allocator.allocate(12 * MIB)
    assert allocator.num_segments == 2


def test_memory_that_runs_out_waits_for_other_streams_and_what_they_used_is_freed_once() -> None:
    allocator = CachingAllocator(NATIVE, capacity=20 * MIB)
    block = allocator.allocate(12 * MIB)
    ticket = allocator.request_free(block)
    again = allocator.allocate(14 * MIB)
    assert (allocator.num_retries, allocator.reserved_bytes) == (1, 14 * MIB)
    allocator.complete_free(block, ticket)
    allocator.request_free(again)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


def test_a_late_ticket_does_not_free_a_block_that_another_tensor_has_now() -> None:
    allocator = native()
    block, _ = allocator.allocate(4 * MIB), allocator.allocate(4 * MIB)
    ticket = allocator.request_free(block)
    allocator.empty_cache()
    later = allocator.allocate(4 * MIB)
    assert later is block
    allocator.request_free(later)
    allocator.complete_free(block, ticket)
    assert later.is_in_use


def test_peaks_are_the_largest_totals() -> None:
    allocator = native()
    first, second = allocator.allocate(12 * MIB), allocator.allocate(14 * MIB)
    allocator.free(first)
    allocator.free(second)
    allocator.empty_cache()
    allocator.allocate(2 * MIB)
    assert (allocator.peak_allocated_bytes, allocator.peak_reserved_bytes) == (26 * MIB, 26 * MIB)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (2 * MIB, 20 * MIB)


def test_emptying_the_cache_gives_back_segments_without_a_block_in_use() -> None:
    allocator = native()
    held, freed, split = (allocator.allocate(size * MIB) for size in (12, 14, 4))
    small = allocator.allocate(100)
    rest = allocator.allocate(4 * MIB)
    for block in (freed, split, small):
        allocator.free(block)
    allocator.empty_cache()
    assert allocator.reserved_bytes == held.size + 20 * MIB  # a block of 4 MiB is in use in the segment of 20 MiB
    allocator.free(rest)
    allocator.empty_cache()
    assert allocator.reserved_bytes == held.size


def test_where_the_driver_has_too_little_the_cache_is_given_back_and_it_is_asked_again() -> None:
    allocator = CachingAllocator(NATIVE, capacity=30 * MIB)
    for _ in range(2):
        allocator.free(allocator.allocate(12 * MIB))
        allocator.free(allocator.allocate(16 * MIB))
    assert allocator.num_retries == 0
    allocator.allocate(20 * MIB)
    assert (allocator.num_retries, allocator.reserved_bytes, allocator.num_segments) == (1, 20 * MIB, 3)
    with pytest.raises(OutOfMemory):
        allocator.allocate(12 * MIB)
    assert allocator.num_retries == 2


def test_a_segment_that_fills_the_memory_to_the_byte_is_taken() -> None:
    allocator = CachingAllocator(NATIVE, capacity=30 * MIB)
    allocator.allocate(30 * MIB)
    assert (allocator.num_retries, allocator.reserved_bytes) == (0, 30 * MIB)


def test_a_limit_is_a_share_of_the_whole_card() -> None:
    limited = replace(NATIVE, per_process_memory_fraction=0.5)
    allocator = CachingAllocator(limited, capacity=50 * MIB, total=60 * MIB)
    allocator.allocate(30 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.allocate(1)


@pytest.mark.parametrize("expandable", [False, True])
def test_a_limit_counts_the_segment_and_not_the_block(expandable: bool) -> None:
    limited = AllocatorSettings(per_process_memory_fraction=0.5, expandable_segments=expandable)
    allocator = CachingAllocator(limited, capacity=30 * MIB)  # a limit of 15 MiB, and a segment of 20 MiB
    with pytest.raises(OutOfMemory):
        allocator.allocate(2 * MIB)


def test_from_a_size_on_blocks_are_not_split_and_serve_no_smaller_request() -> None:
    allocator = native(max_split_bytes=64 * MIB)
    allocator.free(allocator.allocate(64 * MIB))
    allocator.allocate(63 * MIB)
    assert allocator.num_segments == 2
    assert allocator.allocate(64 * MIB).size == 64 * MIB
    assert allocator.num_segments == 2


@pytest.mark.parametrize(("cached", "num_segments"), [(84 * MIB, 2), (82 * MIB, 1)])
def test_a_request_that_is_not_split_takes_a_block_that_is_larger_by_less_than_20_mib(
    cached: int, num_segments: int
) -> None:
    allocator = native(max_split_bytes=64 * MIB)
    allocator.free(allocator.allocate(cached))
    block = allocator.allocate(64 * MIB)
    assert allocator.num_segments == num_segments
    assert block.size == (cached if num_segments == 1 else 64 * MIB)


def test_with_a_largest_split_one_large_enough_block_is_given_back_before_all_are() -> None:
    allocator = CachingAllocator(replace(NATIVE, max_split_bytes=20 * MIB), capacity=160 * MIB)
    for block in [allocator.allocate(size * MIB) for size in (30, 60, 50, 12)]:
        allocator.free(block)
    allocator.allocate(26 * MIB)  # the block of 30 MiB serves
    allocator.allocate(14 * MIB)  # not that of 12 MiB, and those from 20 MiB on serve no smaller request
    assert allocator.reserved_bytes == (30 + 60 + 12 + 14) * MIB  # of 50 and 60 MiB the smaller one was given back
    assert allocator.num_retries == 0


def test_with_a_largest_split_several_blocks_are_given_back_from_the_largest_on() -> None:
    allocator = CachingAllocator(replace(NATIVE, max_split_bytes=20 * MIB), capacity=100 * MIB)
    for block in [allocator.allocate(size * MIB) for size in (20, 30, 36)]:
        allocator.free(block)
    allocator.allocate(58 * MIB)
    assert (allocator.num_retries, allocator.reserved_bytes) == (0, (20 + 58) * MIB)


def test_garbage_is_what_was_not_used_for_longer_than_the_rest() -> None:
    collecting = replace(NATIVE, garbage_collection_threshold=0.5, per_process_memory_fraction=0.99)
    allocator = CachingAllocator(collecting, capacity=200 * MIB, total=200 * MIB)
    old = allocator.allocate(40 * MIB)
    young = [allocator.allocate(size * MIB) for size in (30, 34)]
    busy = allocator.allocate(12 * MIB)
    allocator.free(old)
    allocator.free(busy)
    for _ in range(5):
        allocator.free(allocator.allocate(12 * MIB))
    for block in young:
        allocator.free(block)
    allocator.allocate(50 * MIB)  # 116 MiB are reserved, and 99 MiB is the threshold
    assert allocator.reserved_bytes == (30 + 34 + 12 + 50) * MIB
    assert allocator.num_retries == 0


def test_without_a_limit_no_garbage_is_collected() -> None:
    allocator = CachingAllocator(replace(NATIVE, garbage_collection_threshold=0.1), capacity=100 * MIB)
    allocator.free(allocator.allocate(40 * MIB))
    allocator.allocate(50 * MIB)
    assert allocator.reserved_bytes == 90 * MIB


def test_an_expandable_segment_grows_by_pages_of_its_pool() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    allocator.allocate(100)
    assert allocator.reserved_bytes == 2 * MIB
    first = allocator.allocate(21 * MIB)
    assert allocator.reserved_bytes == (2 + 40) * MIB
    second = allocator.allocate(30 * MIB)
    assert second.address == first.address + first.size
    assert (allocator.reserved_bytes, allocator.num_segments) == ((2 + 60) * MIB, 3)


def test_pages_of_large_blocks_are_as_large_as_segments_are_set() -> None:
    allocator = CachingAllocator(replace(EXPANDABLE, large_segment_bytes=32 * MIB))
    allocator.allocate(2 * MIB)
    assert allocator.reserved_bytes == 32 * MIB


def test_an_expandable_block_is_split_where_512_bytes_remain() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    assert allocator.allocate(20 * MIB - 512).size == 20 * MIB - 512


def test_a_segment_expands_where_a_native_one_would_leave_a_gap() -> None:
    sizes = [30, 34, 38, 42]
    reserved = {}
    for name, settings in (("native", NATIVE), ("expandable", EXPANDABLE)):
        allocator = CachingAllocator(settings)
        for size in sizes:
            allocator.free(allocator.allocate(size * MIB))
        reserved[name] = allocator.reserved_bytes
    assert reserved == {"native": sum(sizes) * MIB, "expandable": 60 * MIB}


def test_the_end_of_a_segment_that_could_grow_is_taken_last() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    blocks = [allocator.allocate(size * MIB) for size in (25, 2, 20)]  # of 60 MiB, 13 MiB are free at the end
    allocator.free(blocks[0])
    assert allocator.allocate(12 * MIB).address == blocks[0].address


def test_emptying_the_cache_unmaps_whole_pages_of_free_blocks() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    blocks = [allocator.allocate(size * MIB) for size in (30, 50, 25)]  # 120 MiB in 6 pages, 15 MiB of them free
    allocator.free(blocks[1])
    allocator.empty_cache()
    assert allocator.reserved_bytes == (120 - 40) * MIB  # of 30 to 80 MiB the pages from 40 to 80
    filled = allocator.allocate(45 * MIB)
    assert filled.address == blocks[0].address + 30 * MIB  # at the lowest address that there is
    assert allocator.reserved_bytes == 120 * MIB


def test_an_expandable_segment_that_holds_nothing_is_given_back_whole() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    for size in (100, 30 * MIB):
        allocator.free(allocator.allocate(size))
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0
    allocator.allocate(30 * MIB)
    assert allocator.reserved_bytes == 40 * MIB


def test_an_expandable_segment_spans_an_eighth_more_than_the_card() -> None:
    allocator = CachingAllocator(EXPANDABLE, capacity=80 * MIB)  # addresses for 100 MiB, in whole pages
    held = [allocator.allocate(20 * MIB) for _ in range(4)]
    for block in held[:3]:
        allocator.free(block)
    taken = allocator.allocate(75 * MIB - 20 * MIB)
    assert taken.address == held[0].address
    allocator.free(taken)
    with pytest.raises(OutOfMemory):
        allocator.allocate(70 * MIB)


def test_pages_that_were_mapped_before_memory_ran_out_serve_later() -> None:
    allocator = CachingAllocator(EXPANDABLE, capacity=50 * MIB)
    allocator.free(allocator.allocate(20 * MIB))
    with pytest.raises(OutOfMemory):
        allocator.allocate(60 * MIB)
    assert allocator.num_retries == 1
    allocator.allocate(40 * MIB)
    assert allocator.reserved_bytes == 40 * MIB


def test_a_segment_that_was_there_before_is_taken_over() -> None:
    allocator = native()
    blocks = allocator.adopt(
        [Range(0, 6 * MIB), Range(6 * MIB, 4 * MIB, is_in_use=True), Range(10 * MIB, 10 * MIB)],
        is_small=False,
        stream=3,
    )
    assert (allocator.reserved_bytes, allocator.allocated_bytes, allocator.num_segments) == (20 * MIB, 4 * MIB, 0)
    assert allocator.allocate(5 * MIB, stream=3).size == 6 * MIB
    allocator.free(blocks[6 * MIB])
    assert allocator.allocate(14 * MIB, stream=3).address == 6 * MIB


def test_an_expandable_segment_that_was_there_before_goes_on_growing() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    page = 20 * MIB
    allocator.adopt(
        [Range(0, page, is_in_use=True), Range(page, page, is_mapped=False), Range(2 * page, page)],
        is_small=False,
        stream=0,
    )
    assert allocator.reserved_bytes == 2 * page
    assert allocator.allocate(45 * MIB).address == page
    assert (allocator.reserved_bytes, allocator.num_segments) == (4 * page, 2)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["alloc", "alloc", "alloc", "free", "free", "request", "empty"]),
        st.one_of(st.integers(1, 3 * MIB), st.integers(1, 90 * MIB)),
        st.integers(0, 1),
    ),
    max_size=60,
)

SETTINGS = st.builds(
    AllocatorSettings,
    expandable_segments=st.booleans(),
    max_split_bytes=st.sampled_from([None, 20 * MIB, 48 * MIB]),
    roundup_power2_divisions=st.sampled_from([(0,) * 16, (4,) * 16]),
    garbage_collection_threshold=st.sampled_from([0.0, 0.6]),
    per_process_memory_fraction=st.sampled_from([1.0, 0.9]),
)


@given(settings=SETTINGS, steps=STEPS, capacity=st.sampled_from([150 * MIB, 400 * MIB, GIB]))
def test_blocks_tile_their_segments_and_every_byte_is_accounted_for(
    settings: AllocatorSettings, steps: list[tuple[str, int, int]], capacity: int
) -> None:
    allocator = CachingAllocator(settings, capacity=capacity)
    live: list[Block] = []
    asked_back: list[tuple[Block, int]] = []
    for action, size, stream in steps:
        if action == "alloc":
            try:
                block = allocator.allocate(size, stream=stream)
            except OutOfMemory:
                continue
            assert block.size >= size
            assert block.stream == stream
            live.append(block)
        elif action == "empty":
            allocator.empty_cache()
        elif live:
            block = live.pop(size % len(live))
            if action == "request":
                asked_back.append((block, allocator.request_free(block)))
            else:
                allocator.free(block)
        assert allocator.allocated_bytes == sum(block.size for block in live) <= allocator.peak_allocated_bytes
        assert allocator.reserved_bytes <= allocator.peak_reserved_bytes <= allocator.capacity
        spans = sorted((block.address, block.address + block.size) for block in live)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        for block in live:
            assert list(tiling_faults(block)) == []
    for block, ticket in asked_back:
        allocator.complete_free(block, ticket)
    for block in live:
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


def tiling_faults(block: Block) -> Iterator[str]:
    """Yield what is wrong with the neighbours of a block in use."""
    assert block.is_in_use
    assert block.is_mapped
    while block.previous is not None:
        block = block.previous
    while (behind := block.next) is not None:
        if behind.address != block.address + block.size or behind.previous is not block:
            yield "a gap"
        if not (block.is_in_use or behind.is_in_use) and block.is_mapped == behind.is_mapped:
            yield "two free neighbours"
        block = behind
