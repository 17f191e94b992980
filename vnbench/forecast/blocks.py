"""The blocks of the caching allocator, and the pools in which free ones are looked for."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(eq=False, slots=True)
class Block:
    """A range of a segment: in use, free, or (in an expandable segment) without memory behind it."""

    address: int
    size: int
    pool: Pool
    stream: int
    is_mapped: bool = True
    is_in_use: bool = False
    pages_from: int | None = None
    """Address that pages are counted from; None in a segment that was taken whole."""
    born: int = 0
    """Searches of the pool when the block became free."""
    previous: Block | None = None
    next: Block | None = None

    @property
    def is_whole_segment(self) -> bool:
        """Whether nothing else is in its segment."""
        return self.previous is None and self.next is None

    @property
    def expandable_size(self) -> int:
        """Its size, with the range behind it that could be mapped."""
        behind = self.next
        return self.size + (behind.size if behind is not None and not behind.is_mapped else 0)


@dataclass(eq=False, slots=True)
class Pool:
    """Free blocks of one kind, which are never shared between streams."""

    is_small: bool
    page: int
    """Bytes by which its expandable segments grow."""
    free: defaultdict[int, list[tuple[int, int, Block]]] = field(default_factory=lambda: defaultdict(list))
    """By stream: (size, address, block), sorted, so that the first that is large enough fits best."""
    unmapped: defaultdict[int, list[tuple[int, Block]]] = field(default_factory=lambda: defaultdict(list))
    """By stream: (address, block), sorted."""
    searches: int = 0
    """How often a free block was looked for."""

    def insert(self, block: Block) -> None:
        """Take up a block that is free, or that has no memory behind it."""
        if block.is_mapped:
            block.born = self.searches
            insort(self.free[block.stream], (block.size, block.address, block))
        else:
            insort(self.unmapped[block.stream], (block.address, block))

    def remove(self, block: Block) -> None:
        """Give up a block that was taken up."""
        if block.is_mapped:
            free = self.free[block.stream]
            del free[bisect_left(free, (block.size, block.address))]
        else:
            unmapped = self.unmapped[block.stream]
            del unmapped[bisect_left(unmapped, (block.address,))]

    def split(self, block: Block, size: int) -> Block:
        """Leave a block that is in no list its first ``size`` bytes; return what follows, which is in none either."""
        rest = Block(block.address + size, block.size - size, self, block.stream, block.is_mapped)
        rest.pages_from, rest.previous, rest.next = block.pages_from, block, block.next
        if rest.next is not None:
            rest.next.previous = rest
        block.next, block.size = rest, size
        return rest

    def merge(self, block: Block) -> None:
        """Let a block that is in no list take in its neighbours that are free as it is, or unmapped as it is."""
        before, behind = block.previous, block.next
        if before is not None and not before.is_in_use and before.is_mapped == block.is_mapped:
            self.remove(before)
            block.address, block.previous = before.address, before.previous
            block.size += before.size
            if block.previous is not None:
                block.previous.next = block
        if behind is not None and not behind.is_in_use and behind.is_mapped == block.is_mapped:
            self.remove(behind)
            block.next = behind.next
            block.size += behind.size
            if block.next is not None:
                block.next.previous = block

    def range_for(self, size: int, stream: int) -> Block | None:
        """Return the first block of the range at the lowest address that is free or could be mapped, if it is enough.

        A range begins at an unmapped block, or at the free one before it.
        """
        for _, unmapped in self.unmapped[stream]:
            before = unmapped.previous
            first = unmapped if before is None or before.is_in_use else before
            room, block = 0, first
            while room < size and block is not None and not block.is_in_use:
                room, block = room + block.size, block.next  # type: ignore[assignment]
            if room >= size:
                return first
        return None


class Range(NamedTuple):
    """A part of a segment that was there before."""

    address: int
    size: int
    is_mapped: bool = True
    is_in_use: bool = False
