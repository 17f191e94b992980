from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import LOGS, sizes_of, small_sizes

from vnbench.batching import bounds
from vnbench.batching.alignment import align
from vnbench.batching.bounds import fewest_padded_pixels
from vnbench.batching.sizes import SizeArray, draw_sizes


def partitions(items: tuple[int, ...], *, num_groups: int, largest_group: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield every way to put the items into so many groups of at most a size."""
    if not items:
        if num_groups == 0:
            yield ()
        return
    first, rest = items[0], items[1:]
    for mask in range(2 ** len(rest)):
        group = (first, *(item for i, item in enumerate(rest) if mask >> i & 1))
        if num_groups > 0 and len(group) <= largest_group:
            others = tuple(item for item in rest if item not in group)
            for partition in partitions(others, num_groups=num_groups - 1, largest_group=largest_group):
                yield (group, *partition)


def cheapest(
    sizes_N2: SizeArray, *, num_groups: int, largest_group: int, by_canvas: bool = False, or_fewer: bool = False
) -> int:
    """Try every partition: the least sum of members x largest area, or x largest height x largest width."""
    aligned_N2 = align(sizes_N2)
    areas_N = aligned_N2.prod(axis=1)

    def cost(group: Sequence[int]) -> int:
        members = list(group)
        return len(members) * int(aligned_N2[members].max(axis=0).prod() if by_canvas else areas_N[members].max())

    return min(
        sum(map(cost, groups))
        for number in range(1 if or_fewer else num_groups, num_groups + 1)
        for groups in partitions(tuple(range(len(sizes_N2))), num_groups=number, largest_group=largest_group)
    )


def test_two_short_groups_may_be_cheaper_than_a_full_one_with_the_rest() -> None:
    # Areas 1, 1, 10, 10 in two groups of at most three: 2 x 1 + 2 x 10, below 3 x 10 + 1 x 1.
    assert fewest_padded_pixels(np.array([1, 1, 10, 10]), num_micro_batches=2, micro_batch_size=3) == 22


def test_full_groups_are_cut_from_the_sorted_areas() -> None:
    # Areas 1 to 6 in pairs: 2 x (2 + 4 + 6).
    assert fewest_padded_pixels(np.array([5, 1, 4, 2, 6, 3]), num_micro_batches=3, micro_batch_size=2) == 24


@given(sizes_N2=small_sizes(7), micro_batch_size=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_grouping_pads_less_and_one_grouping_reaches_it_in_one_dimension(
    sizes_N2: SizeArray, micro_batch_size: int
) -> None:
    num_groups = -(-len(sizes_N2) // micro_batch_size)
    bound = fewest_padded_pixels(
        align(sizes_N2).prod(axis=1), num_micro_batches=num_groups, micro_batch_size=micro_batch_size
    )
    assert bound == cheapest(sizes_N2, num_groups=num_groups, largest_group=micro_batch_size)
    assert bound <= cheapest(sizes_N2, num_groups=num_groups, largest_group=micro_batch_size, by_canvas=True)


@given(sizes_N2=small_sizes(7), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_bound_holds_for_many_short_micro_batches(sizes_N2: SizeArray, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(sizes_N2) - 1)), max_size=len(sizes_N2) - 1)))
    lengths = [stop - start for start, stop in pairwise([0, *cuts, len(sizes_N2)])]
    bound = fewest_padded_pixels(
        align(sizes_N2).prod(axis=1), num_micro_batches=len(lengths), micro_batch_size=max(lengths)
    )
    assert bound == cheapest(sizes_N2, num_groups=len(lengths), largest_group=max(lengths))


@given(sizes_N2=small_sizes(7), num_groups=st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_where_the_table_is_too_large_the_bound_is_that_of_groups_of_any_size(
    sizes_N2: SizeArray, num_groups: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "MAX_STATES", 0)
        bound = fewest_padded_pixels(
            align(sizes_N2).prod(axis=1), num_micro_batches=num_groups, micro_batch_size=len(sizes_N2)
        )
    assert bound == cheapest(sizes_N2, num_groups=num_groups, largest_group=len(sizes_N2), or_fewer=True)


def test_the_bound_of_a_large_plan_with_free_places_is_found_in_moderate_time() -> None:
    areas_N = align(draw_sizes(LOGS, 12_000, seed=0)).prod(axis=1)
    bound = fewest_padded_pixels(areas_N, num_micro_batches=1000, micro_batch_size=64)
    assert areas_N.sum() < bound < 1.01 * areas_N.sum()


def test_a_group_per_example_pads_nothing_beyond_alignment() -> None:
    areas_N = align(sizes_of((1, 1), (33, 64), (640, 12_800))).prod(axis=1)
    assert fewest_padded_pixels(areas_N, num_micro_batches=3, micro_batch_size=1) == areas_N.sum()
