from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnbench.batching.canvases import canvas_grid

SIDES = st.integers(1, 3000)


def test_the_worst_case_comes_first_and_the_smallest_last() -> None:
    grid = canvas_grid(smallest=(480, 3200), largest=(640, 12_800), count=9)
    assert len(grid) == 9
    assert grid[0] == (640, 12_800)
    assert grid[-1] == (480, 3200)
    areas = [height * width for height, width in grid]
    steps = [a - b for a, b in itertools.pairwise(areas)]
    assert min(steps) > 0.9 * max(steps)


def test_both_low_and_high_canvases_are_among_them() -> None:
    grid = canvas_grid(smallest=(480, 3200), largest=(640, 12_800), count=9)
    inner = [height for height, _ in grid[1:-1]]
    assert {480, 640} <= set(inner)


@given(first=st.tuples(SIDES, SIDES), second=st.tuples(SIDES, SIDES), count=st.integers(2, 20))
def test_sizes_lie_in_the_range_and_none_stands_twice(
    first: tuple[int, int], second: tuple[int, int], count: int
) -> None:
    (low_height, high_height), (low_width, high_width) = (sorted(sides) for sides in zip(first, second, strict=True))
    grid = canvas_grid(smallest=(low_height, low_width), largest=(high_height, high_width), count=count)
    assert 1 <= len(grid) <= count
    assert len(set(grid)) == len(grid)
    assert {(low_height, low_width), (high_height, high_width)} <= set(grid)
    assert all(low_height <= height <= high_height and 1 <= width <= high_width for height, width in grid)


def test_one_size_is_one_canvas() -> None:
    assert canvas_grid(smallest=(480, 3200), largest=(480, 3200), count=9) == ((480, 3200),)


@pytest.mark.parametrize(("smallest", "count"), [((481, 3200), 9), ((480, 3201), 9), ((480, 3200), 1)])
def test_a_range_that_is_none_is_refused(smallest: tuple[int, int], count: int) -> None:
    with pytest.raises(ValueError, match=r"no . sizes lie between"):
        canvas_grid(smallest=smallest, largest=(480, 3200), count=count)
