from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import LOGS, batches_of, config_of, plan_of, sizes_of

from vnbench.batching.accounts import account, account_for_epoch
from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, MicroBatch
from vnbench.batching.sizes import draw_sizes
from vnbench.records.spec.words import ALIGNMENT


@pytest.mark.parametrize(("length", "aligned"), [(1, 32), (31, 32), (32, 32), (33, 64), (640, 640), (12799, 12800)])
def test_align_rounds_up_to_the_next_multiple(length: int, aligned: int) -> None:
    assert align(length) == aligned
    assert align(np.array([length, 32])).tolist() == [aligned, 32]


class TestPlan:
    def test_steps_and_arrays_are_two_views_of_one_plan(self) -> None:
        steps = (
            (MicroBatch((3, 1), (32, 64)), MicroBatch((0,), (64, 64))),
            (MicroBatch((2,), (32, 32)),),
        )
        plan = BatchPlan.from_steps(steps)
        assert plan.steps == steps
        assert plan.order_N.tolist() == [3, 1, 0, 2]
        assert plan.lengths_S.tolist() == [3, 1]
        assert plan.padded_pixels_M.tolist() == [2 * 32 * 64, 64 * 64, 32 * 32]

    def test_plans_are_equal_if_all_their_numbers_are(self) -> None:
        plan = BatchPlan.from_steps([[MicroBatch((0, 1), (32, 32))]])
        assert plan == BatchPlan.from_steps([[MicroBatch((0, 1), (32, 32))]])
        for other in (
            [[MicroBatch((1, 0), (32, 32))]],
            [[MicroBatch((0, 1), (32, 64))]],
            [[MicroBatch((0,), (32, 32)), MicroBatch((1,), (32, 32))]],
            [[MicroBatch((0,), (32, 32))], [MicroBatch((1,), (32, 32))]],
        ):
            assert plan != BatchPlan.from_steps(other)

    @pytest.mark.parametrize("steps", [[], [[]], [[MicroBatch((), (32, 32))]], [[MicroBatch((0,), (32, 32))], []]])
    def test_a_step_or_micro_batch_without_examples_is_refused(self, steps: list[list[MicroBatch]]) -> None:
        with pytest.raises(ValueError, match="without examples"):
            BatchPlan.from_steps(steps)


def test_a_plan_of_three_examples_worked_by_hand() -> None:
    # Aligned: 32 x 32, 64 x 64, 32 x 96. Areas: 1024, 4096, 3072.
    sizes_N2 = sizes_of((10, 20), (33, 64), (32, 65))
    plan = plan_of(sizes_N2, [[[0, 1], [2]]])
    before = plan_of(sizes_N2, [[[0], [2]], [[1]]])
    two_before = plan_of(sizes_N2, [[[0, 1, 2]]])
    accounted = account(sizes_N2, plan, previous=[before, two_before])
    assert accounted.num_examples == 3
    assert accounted.num_batches == 2
    assert accounted.num_steps == 1
    assert accounted.valid_pixels == 10 * 20 + 33 * 64 + 32 * 65 == 4392
    assert accounted.padded_pixels == 2 * 64 * 64 + 1 * 32 * 96 == 11264
    assert accounted.padding_ratio == 1 - 4392 / 11264
    # The cheapest of the groupings into two: {1024} and {3072, 4096}.
    assert accounted.lower_bound_padding_ratio == 1 - 4392 / (1024 + 2 * 4096)
    assert accounted.distinct_shapes == 2
    assert accounted.largest_padded_pixels == 2 * 64 * 64
    # Of the pairs 01, 02 and 12 of the one step, 02 was in one step before, though not in one micro-batch.
    assert accounted.repeated_pair_ratio == pytest.approx(1 / 3)
    assert accounted.repeated_pair_ratio_two_before == 1
    assert accounted.repeated_pair_ratio_either == 1
    assert accounted.lag_1_width_correlation is None, "one step has no neighbour"


def test_a_canvas_takes_height_and_width_from_different_examples() -> None:
    sizes_N2 = sizes_of((32, 320), (320, 32))
    assert account(sizes_N2, plan_of(sizes_N2, [[[0, 1]]])).padded_pixels == 2 * 320 * 320


def test_canvases_of_different_counts_are_different_shapes() -> None:
    sizes_N2 = sizes_of(*[(32, 32)] * 5)
    assert account(sizes_N2, plan_of(sizes_N2, [[[0, 1]], [[2, 3]], [[4]]])).distinct_shapes == 2


def test_pairs_are_none_without_a_previous_plan_and_without_pairs() -> None:
    sizes_N2 = sizes_of((1, 1), (2, 2))
    pairs, no_pairs = plan_of(sizes_N2, [[[0, 1]]]), plan_of(sizes_N2, [[[0]], [[1]]])
    assert account(sizes_N2, pairs).repeated_pair_ratio is None
    assert account(sizes_N2, no_pairs, previous=[pairs]).repeated_pair_ratio is None
    assert account(sizes_N2, pairs, previous=[no_pairs]).repeated_pair_ratio == 0
    assert account(sizes_N2, pairs, previous=[no_pairs]).repeated_pair_ratio_two_before is None
    assert account(sizes_N2, pairs, previous=[no_pairs]).repeated_pair_ratio_either is None
    assert account(sizes_N2, pairs, previous=[no_pairs, pairs]).repeated_pair_ratio_either == 1


@pytest.mark.parametrize(
    ("widths", "correlation"), [((32, 64, 96, 128), 1.0), ((32, 64, 32, 64), -1.0), ((32, 32, 32, 32), None)]
)
def test_lag_1_correlation_of_the_steps_mean_widths(widths: tuple[int, ...], correlation: float | None) -> None:
    # Each step holds one example narrower and one wider than its mean; a short last step is left out.
    rows = [(32, width + change) for width in widths for change in (-1, 1)]
    sizes_N2 = sizes_of(*rows, (32, 5000))
    steps = [[[2 * index, 2 * index + 1]] for index in range(len(widths))]
    accounted = account(sizes_N2, plan_of(sizes_N2, [*steps, [[len(rows)]]]))
    assert accounted.lag_1_width_correlation == (None if correlation is None else pytest.approx(correlation))


@given(seed=st.integers(0, 1000), batch_size=st.integers(2, 7))
@settings(max_examples=30, deadline=None)
def test_repeated_pairs_are_those_that_counting_every_pair_finds(seed: int, batch_size: int) -> None:
    sizes_N2 = draw_sizes(LOGS, 40, seed=seed)
    config = config_of("bucketed", sizes_N2, batch_size=batch_size, micro_batch_size=1, seed=seed)
    two_before, before, now = (plan_epoch(sizes_N2, config, epoch=epoch) for epoch in (0, 1, 2))
    pairs = [
        {(a, b) for batch in batches_of(plan) for a in batch for b in batch if a < b}
        for plan in (now, before, two_before)
    ]
    accounted = account(sizes_N2, now, previous=[before, two_before])
    assert accounted.repeated_pair_ratio == len(pairs[0] & pairs[1]) / len(pairs[0])
    assert accounted.repeated_pair_ratio_two_before == len(pairs[0] & pairs[2]) / len(pairs[0])
    assert accounted.repeated_pair_ratio_either == len(pairs[0] & (pairs[1] | pairs[2])) / len(pairs[0])


def test_the_account_of_an_epoch_compares_with_those_before_it_as_far_as_there_are_any() -> None:
    sizes_N2 = draw_sizes(LOGS, 100, seed=0)
    config = config_of("bucketed", sizes_N2, batch_size=4)
    plans = [plan_epoch(sizes_N2, config, epoch=epoch) for epoch in range(3)]
    assert account_for_epoch(sizes_N2, config) == account(sizes_N2, plans[2], previous=[plans[1], plans[0]])
    assert account_for_epoch(sizes_N2, config, epoch=1) == account(sizes_N2, plans[1], previous=[plans[0]])
    assert account_for_epoch(sizes_N2, config, epoch=0) == account(sizes_N2, plans[0])


@pytest.mark.parametrize("order", [[0], [0, 0], [0, 2], [0, -1], [0, 1, 1]])
def test_a_plan_that_does_not_hold_every_example_once_is_refused(order: list[int]) -> None:
    sizes_N2 = sizes_of((1, 1), (2, 2))
    good = plan_of(sizes_N2, [[[0, 1]]])
    bad = BatchPlan.from_steps([[MicroBatch(tuple(order), (ALIGNMENT, ALIGNMENT))]])
    with pytest.raises(ValueError, match="exactly once"):
        account(sizes_N2, bad)
    with pytest.raises(ValueError, match="exactly once"):
        account(sizes_N2, good, previous=[bad])


def test_a_plan_with_an_empty_micro_batch_is_refused() -> None:
    sizes_N2 = sizes_of((1, 1), (2, 2))
    good = plan_of(sizes_N2, [[[0, 1]]])
    empty = dataclasses.replace(
        good, lengths_M=np.array([2, 0]), canvases_M2=np.full((2, 2), ALIGNMENT), passes_S=np.array([2])
    )
    with pytest.raises(ValueError, match="without examples"):
        account(sizes_N2, empty)
