"""PyTorch's caching allocator as a program of its own: what it takes from the driver for a sequence of requests.

The rules are those of ``c10/cuda/CUDACachingAllocator.cpp`` (torch 2.11 to 2.13), without CUDA graphs and memory pools
of the user's. Segments are taken from the driver, whole or by pages; a request takes the smallest cached block that
holds it, which is split where enough is left over; a block that is freed merges with free neighbours and is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from vnbench.forecast.blocks import Block, Pool, Range
from vnbench.forecast.settings import MIN_BLOCK_BYTES, AllocatorSettings

SMALL_BYTES = 2**20
"""Largest block of the small pool (kSmallSize); more than this must remain of a large block for it to be split."""

SMALL_SEGMENT_BYTES = 2 * 2**20
"""Segment of the small pool, and its page (kSmallBuffer)."""

OWN_SEGMENT_BYTES = 10 * 2**20
"""From this size on a block has a segment of its own (kMinLargeAlloc) ..."""

OWN_SEGMENT_STEP = 2 * 2**20
"""... whose size is a multiple of this (kRoundLarge)."""

ENDLESS = 2**60
"""Stands for the memory of a card that nobody named."""


class OutOfMemory(Exception):
    """The driver has too little for a request, even after all that can be given back was given back."""


class CachingAllocator:
    """The allocator of one card: ``capacity`` is what the driver has for it, ``total`` the whole memory of the card."""

    def __init__(
        self, settings: AllocatorSettings, *, capacity: int = ENDLESS, total: int | None = None, first_address: int = 0
    ) -> None:
        self.settings = settings
        self.capacity = capacity
        self.total = capacity if total is None else total
        self.limit = settings.limit_bytes(self.total)
        self.allocated_bytes = self.peak_allocated_bytes = 0
        self.reserved_bytes = self.peak_reserved_bytes = 0
        self.num_segments = self.num_retries = 0
        self._small = Pool(is_small=True, page=SMALL_SEGMENT_BYTES)
        self._large = Pool(is_small=False, page=settings.large_segment_bytes)
        self._next_address = first_address
        self._waiting: dict[Block, int] = {}  # freed, but another stream may still use them: their tickets
        self._num_tickets = 0

    def allocate(self, requested: int, *, stream: int = 0) -> Block:
        """Return a block that holds ``requested`` bytes, at least one.

        Raises:
            OutOfMemory: there is no memory for it.
        """
        size = self.settings.rounded(requested)
        pool = self._small if size <= SMALL_BYTES else self._large
        block = self._take_cached(pool, size, stream)
        if block is None:
            self._collect_garbage()
            block = self._take_new(pool, size, stream)
        if block is None and self._release_oversize(pool, size, stream):
            block = self._take_new(pool, size, stream)
        if block is None:
            self.empty_cache()
            self.num_retries += 1
            block = self._take_new(pool, size, stream)
        if block is None:
            raise OutOfMemory
        if self._is_split(block, size):
            pool.insert(pool.split(block, size))
        block.is_in_use = True
        self._count_allocated(block.size)
        return block

    def request_free(self, block: Block) -> int:
        """Count a block as freed, which is kept until another stream is done with it; return a ticket for that."""
        if block not in self._waiting:
            self.allocated_bytes -= block.size
            self._num_tickets += 1
            self._waiting[block] = self._num_tickets
        return self._waiting[block]

    def complete_free(self, block: Block, ticket: int) -> None:
        """Make a block free; nothing where its freeing was completed before, whoever has the block now."""
        if self._waiting.get(block) == ticket:
            del self._waiting[block]
            block.is_in_use = False
            block.pool.merge(block)
            block.pool.insert(block)

    def free(self, block: Block) -> None:
        """Free a block that no other stream uses."""
        self.complete_free(block, self.request_free(block))

    def empty_cache(self) -> None:
        """Give back every segment that holds nothing in use, and of an expandable one the whole pages."""
        for block, ticket in list(self._waiting.items()):
            self.complete_free(block, ticket)
        for pool in (self._large, self._small):
            for block in [block for blocks in pool.free.values() for _, _, block in blocks]:
                if block.pages_from is not None:
                    self._unmap(block, block.pages_from)
                elif block.is_whole_segment:
                    self._release(block)

    def adopt(self, ranges: Sequence[Range], *, is_small: bool, stream: int) -> dict[int, Block]:
        """Take over a segment that was there before, and return its blocks in use by their addresses.

        Each range begins where the one before it ends. Those without memory are of an expandable segment.
        """
        pool = self._small if is_small else self._large
        start, end = ranges[0].address, ranges[-1].address + ranges[-1].size
        pages_from = None
        if self.settings.expandable_segments:
            pages_from = start
            behind = self._address_space(pool) - (end - start)
            ranges = [*ranges, Range(end, behind, is_mapped=False)] if behind > 0 else ranges
        last: Block | None = None
        blocks: dict[int, Block] = {}
        for address, size, is_mapped, is_in_use in ranges:
            block = Block(address, size, pool, stream, is_mapped, is_in_use, pages_from, previous=last)
            if last is not None:
                last.next = block
            last = block
            self._count_reserved(size if is_mapped else 0)
            self._count_allocated(size if is_in_use else 0)
            if is_in_use:
                blocks[address] = block
            else:
                pool.insert(block)
        return blocks

    def _take_cached(self, pool: Pool, size: int, stream: int) -> Block | None:
        """Return the free block that fits best, if one may serve."""
        pool.searches += 1
        free = pool.free[stream]
        at = bisect_left(free, (size,))
        if at == len(free):
            return None
        if self.settings.expandable_segments:
            # What could be mapped behind a block counts to its size, so that the end of a segment is taken last.
            while at + 1 < len(free) and free[at + 1][2].expandable_size < free[at][2].expandable_size:
                at += 1
        block, max_split = free[at][2], self.settings.max_split_bytes
        if max_split is not None:
            if size < max_split <= block.size:
                return None
            if size >= max_split and block.size >= size + self.settings.max_non_split_rounding_bytes:
                return None
        del free[at]
        return block

    def _take_new(self, pool: Pool, size: int, stream: int) -> Block | None:
        """Return a block that the driver gives; None where it has too little."""
        segment = self._segment_bytes(size)
        if self.limit is not None and self.reserved_bytes + segment > self.limit:
            return None
        if self.settings.expandable_segments:
            return self._expand(pool, size, stream)
        if self.reserved_bytes + segment > self.capacity:
            return None
        self._count_reserved(segment)
        self.num_segments += 1
        return Block(self._place(segment), segment, pool, stream)

    def _segment_bytes(self, size: int) -> int:
        if size <= SMALL_BYTES:
            return SMALL_SEGMENT_BYTES
        if size < OWN_SEGMENT_BYTES:
            return self.settings.large_segment_bytes
        return _up(size, OWN_SEGMENT_STEP)

    def _is_split(self, block: Block, size: int) -> bool:
        rest, max_split = block.size - size, self.settings.max_split_bytes
        if block.pool.is_small or self.settings.expandable_segments:
            return rest >= MIN_BLOCK_BYTES
        return rest > SMALL_BYTES and (max_split is None or size < max_split)

    def _release(self, block: Block) -> None:
        block.pool.remove(block)
        self.reserved_bytes -= block.size

    def _release_oversize(self, pool: Pool, size: int, stream: int) -> bool:
        """Give back the smallest unsplit block that is large enough, or several; return whether that is enough."""
        max_split = self.settings.max_split_bytes
        if max_split is None or self.settings.expandable_segments:
            return False
        needed, free = max(size, max_split), pool.free[stream]
        at = bisect_left(free, (needed,))
        if at < len(free):
            self._release(free[at][2])
            return True
        released = 0
        while released < needed and free and free[-1][0] >= max_split:
            released += free[-1][0]
            self._release(free[-1][2])
        return released >= needed

    def _collect_garbage(self) -> None:
        """Give back large segments that were not used for longer than the others, down to the threshold."""
        if self.limit is None or not self.settings.garbage_collection_threshold:
            return
        excess = self.reserved_bytes - int(self.settings.garbage_collection_threshold * self.limit)
        kept = [block for blocks in self._large.free.values() for _, _, block in blocks if block.is_whole_segment]
        while excess > 0 and kept:
            ages = [self._large.searches - block.born for block in kept]
            old = [block for block, age in zip(kept, ages, strict=True) if age >= sum(ages) / len(ages)]
            for block in old:
                self._release(block)
                excess -= block.size
            kept = [block for block in kept if block not in old]

    def _expand(self, pool: Pool, size: int, stream: int) -> Block | None:
        """Return what is free or can be mapped at the lowest address; None where the driver has too little for it."""
        block = pool.range_for(size, stream)
        if block is None:
            space = self._address_space(pool)
            at = self._place(space)
            block = Block(at, space, pool, stream, is_mapped=False, pages_from=at)
            pool.insert(block)
        if not block.is_mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            behind = block.next
            assert behind is not None  # the range is large enough
            if not self._map(behind, min(behind.size, size - block.size)):
                return None
            block = behind
        pool.remove(block)
        return block

    def _address_space(self, pool: Pool) -> int:
        """Return the bytes of an expandable segment: an eighth more than the card has, in whole pages."""
        return _up(self.total + self.total // 8, pool.page)

    def _map(self, block: Block, size: int) -> bool:
        """Map the pages of the first ``size`` bytes of an unmapped block; return whether there is memory for them."""
        taken = _up(size, block.pool.page)
        if self.reserved_bytes + taken > self.capacity:
            return False
        block.pool.remove(block)
        if taken < block.size:
            block.pool.insert(block.pool.split(block, taken))
        block.is_mapped = True
        block.pool.merge(block)
        block.pool.insert(block)
        self._count_reserved(taken)
        self.num_segments += 1
        return True

    def _unmap(self, block: Block, pages_from: int) -> None:
        """Give back the pages that lie in a free block as a whole."""
        page = block.pool.page
        start = pages_from + _up(block.address - pages_from, page)
        end = pages_from + (block.address + block.size - pages_from) // page * page
        if start >= end:
            return
        block.pool.remove(block)
        if start > block.address:
            rest = block.pool.split(block, start - block.address)
            block.pool.insert(block)
            block = rest
        if end < block.address + block.size:
            block.pool.insert(block.pool.split(block, end - start))
        block.is_mapped = False
        block.pool.merge(block)
        self.reserved_bytes -= end - start
        if not block.is_whole_segment:
            block.pool.insert(block)

    def _count_allocated(self, size: int) -> None:
        self.allocated_bytes += size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)

    def _count_reserved(self, size: int) -> None:
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

    def _place(self, size: int) -> int:
        """Return an address that was never used; only the order of equally large free blocks depends on it."""
        self._next_address += size
        return self._next_address - size


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
