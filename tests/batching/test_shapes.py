from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import LOGS, config_of, sizes_of, small_sizes

from vnbench.batching import shapes
from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.alignment import align
from vnbench.batching.shapes import cheapest_edges, choose_grid
from vnbench.batching.sizes import SizeArray, draw_sizes


def rounded_up(lengths: list[int], edges: tuple[int, ...]) -> list[int]:
    return [min(edge for edge in edges if edge >= length) for length in lengths]


def test_two_edges_for_four_widths_worked_by_hand() -> None:
    # 1 and 2 apart, 9 and 10 apart: rounding 1 to 2 and 9 to 10 costs least.
    one, two, *_ = cheapest_edges(np.array([10, 1, 9, 2]), np.array([1, 1, 1, 1]), most=2)
    assert one.tolist() == [10]
    assert two.tolist() == [2, 10]


def test_weights_pull_an_edge() -> None:
    # Of 1, 5 and 10 the edge beside 10 stays with the 5, unless the 1 weighs much more.
    lengths = np.array([1, 5, 10])
    assert cheapest_edges(lengths, np.array([1, 1, 1]), most=2)[-1].tolist() == [5, 10]
    assert cheapest_edges(lengths, np.array([9, 1, 1]), most=2)[-1].tolist() == [1, 10]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    weights=st.lists(st.integers(1, 5), min_size=9, max_size=9),
    most=st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_no_other_edges_are_cheaper(lengths: list[int], weights: list[int], most: int) -> None:
    weights = weights[: len(lengths)]
    distinct = sorted(set(lengths))
    for count, edges in enumerate(cheapest_edges(np.array(lengths), np.array(weights), most=most), start=1):
        assert len(edges) == count

        def cost(chosen: tuple[int, ...]) -> int:
            return sum(w * n for w, n in zip(weights, rounded_up(lengths, chosen), strict=True))

        others = [(*some, distinct[-1]) for some in combinations(distinct[:-1], count - 1)]
        assert cost(tuple(edges.tolist())) == min(map(cost, others))


@given(sizes_N2=small_sizes(40), count=st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_a_grid_holds_every_example_and_no_more_canvases_than_asked(sizes_N2: SizeArray, count: int) -> None:
    aligned_N2 = align(sizes_N2)
    grid = choose_grid(aligned_N2, count=count)
    snapped_N2 = grid.snap(aligned_N2)
    assert (snapped_N2 >= aligned_N2).all()
    assert len(grid.heights_E) * len(grid.widths_E) <= count
    assert len(np.unique(snapped_N2, axis=0)) <= count
    assert (snapped_N2 % 32 == 0).all()
    assert (grid.snap(snapped_N2) == snapped_N2).all()


def test_more_canvases_never_pad_more() -> None:
    aligned_N2 = align(draw_sizes(LOGS, 1000, seed=0))
    padded = [int(choose_grid(aligned_N2, count=count).snap(aligned_N2).prod(axis=1).sum()) for count in range(1, 60)]
    assert padded == sorted(padded, reverse=True)
    assert padded[0] == 1000 * 640 * 12_800


def test_as_many_canvases_as_sides_allow_pad_nothing() -> None:
    aligned_N2 = align(sizes_of((32, 64), (64, 64), (64, 96)))
    assert (choose_grid(aligned_N2, count=4).snap(aligned_N2) == aligned_N2).all()


def test_very_many_lengths_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MAX_EDGES", 10)
    aligned_N2 = align(draw_sizes(LOGS, 500, seed=0))
    grid = choose_grid(aligned_N2, count=40)
    assert len(grid.widths_E) <= 10
    assert (grid.snap(aligned_N2) >= aligned_N2).all()


@pytest.mark.parametrize(("rows", "count"), [([], 3), ([(32, 32)], 0)])
def test_no_canvases_or_no_examples_are_refused(rows: list[tuple[int, int]], count: int) -> None:
    with pytest.raises(ValueError, match="cannot choose"):
        choose_grid(sizes_of(*rows), count=count)


def test_two_dozen_shapes_cost_a_third_of_what_random_batches_do() -> None:
    sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)
    few = account_for_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16, shapes=24))
    assert few.distinct_shapes <= 24
    assert few.padding_ratio == pytest.approx(0.119, abs=0.003)
