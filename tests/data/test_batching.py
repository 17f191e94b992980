from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnbench.data.batching import (
    POOL_BATCHES,
    SAMPLERS,
    BatchPlan,
    account,
    account_for_sampler,
    align,
    plan_epoch,
)
from vnbench.data.sizes import MAX_SEED, SizeArray, SizeDistribution, draw_sizes
from vnbench.spec import ALIGNMENT, SAMPLER_NAMES, SamplerName
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12800), heights=PixelRange(start=480, stop=640))

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def sizes_of(*rows: tuple[int, int]) -> SizeArray:
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def small_sizes(max_examples: int) -> st.SearchStrategy[SizeArray]:
    """Few classes and few widths, so that ties, mixed batches and remainders are common."""
    side = st.integers(1, 5 * ALIGNMENT)
    return st.lists(st.tuples(side, side), min_size=1, max_size=max_examples).map(lambda rows: sizes_of(*rows))


def batches_of(plan: BatchPlan) -> list[list[int]]:
    return [list(chain.from_iterable(step)) for step in plan.steps]


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


@pytest.mark.parametrize(("length", "aligned"), [(1, 32), (31, 32), (32, 32), (33, 64), (640, 640), (12799, 12800)])
def test_align_rounds_up_to_the_next_multiple(length: int, aligned: int) -> None:
    assert align(length) == aligned
    assert align(np.array([length, 32])).tolist() == [aligned, 32]


def test_every_sampler_name_has_a_sampler() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES


@every_sampler
class TestEverySampler:
    @given(
        sizes_N2=small_sizes(80),
        micro_batch_size=st.integers(1, 6),
        accumulation_steps=st.integers(1, 4),
        seed=st.integers(0, MAX_SEED),
        epoch=st.integers(0, 2**32 - 1),
    )
    @settings(max_examples=200, deadline=None)
    def test_plans_hold_every_example_once_in_full_steps_and_keep_the_bound(
        self,
        sampler: SamplerName,
        sizes_N2: SizeArray,
        micro_batch_size: int,
        accumulation_steps: int,
        seed: int,
        epoch: int,
    ) -> None:
        batch_size = micro_batch_size * accumulation_steps
        plan = plan_epoch(
            sizes_N2,
            sampler=sampler,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
            epoch=epoch,
        )
        num_examples = len(sizes_N2)
        assert sorted(chain.from_iterable(plan.micro_batches)) == list(range(num_examples))

        *full, last = [len(batch) for batch in batches_of(plan)]
        assert full == [batch_size] * ((num_examples - 1) // batch_size)
        assert last == (num_examples - 1) % batch_size + 1
        *full, last = [len(micro_batch) for micro_batch in plan.micro_batches]
        assert full == [micro_batch_size] * ((num_examples - 1) // micro_batch_size)
        assert last == (num_examples - 1) % micro_batch_size + 1

        accounted = account(sizes_N2, plan, previous=plan)
        assert 0 <= accounted.lower_bound_padding_ratio <= accounted.padding_ratio < 1
        assert accounted.num_examples == num_examples
        assert accounted.num_steps == len(plan.steps)
        assert accounted.num_batches == len(plan.micro_batches)
        assert 1 <= accounted.distinct_shapes <= accounted.num_batches
        has_pairs = batch_size > 1 and num_examples > 1
        assert accounted.repeated_pair_ratio == (1 if has_pairs else None)

    def test_a_plan_depends_on_seed_and_epoch_alone(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 1000, seed=0)

        def plan(*, seed: int, epoch: int) -> BatchPlan:
            return plan_epoch(sizes_N2, sampler=sampler, batch_size=16, micro_batch_size=4, seed=seed, epoch=epoch)

        assert plan(seed=3, epoch=2) == plan(seed=3, epoch=2)
        assert len({plan(seed=seed, epoch=epoch) for seed in (3, 4) for epoch in (0, 1, 2)}) == 6
        # Neighbouring seeds and epochs must not share a stream: seed 3, epoch 4 is not seed 4, epoch 3.
        assert plan(seed=3, epoch=4) != plan(seed=4, epoch=3)

    def test_a_batch_larger_than_the_data_is_one_short_step(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 5, seed=0)
        plan = plan_epoch(sizes_N2, sampler=sampler, batch_size=16, micro_batch_size=4, seed=0, epoch=0)
        assert [len(micro_batch) for micro_batch in plan.micro_batches] == [4, 1]
        assert len(plan.steps) == 1

    def test_the_order_of_steps_does_not_follow_their_size(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)
        plan = plan_epoch(sizes_N2, sampler=sampler, batch_size=16, micro_batch_size=16, seed=0, epoch=0)
        areas = np.array([sizes_N2[batch].prod(axis=1).mean() for batch in batches_of(plan)])
        # Independent steps have a standard deviation of 1 / sqrt(750) = 0.037.
        assert abs(np.corrcoef(areas[:-1], areas[1:])[0, 1]) < 0.15
        assert abs(np.corrcoef(areas, np.arange(len(areas)))[0, 1]) < 0.15

    @pytest.mark.parametrize(
        ("batch_size", "micro_batch_size"), [(4, 3), (4, 8), (4, 0), (0, 1), (0, 0), (-4, -2), (4, -2)]
    )
    def test_a_micro_batch_that_does_not_divide_its_batch_is_refused(
        self, sampler: SamplerName, batch_size: int, micro_batch_size: int
    ) -> None:
        with pytest.raises(ValueError, match="must divide"):
            plan_epoch(
                sizes_of((1, 1)),
                sampler=sampler,
                batch_size=batch_size,
                micro_batch_size=micro_batch_size,
                seed=0,
                epoch=0,
            )

    @pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (MAX_SEED + 1, 0), (0, -1), (0, 2**32)])
    def test_a_seed_or_epoch_outside_the_key_is_refused(self, sampler: SamplerName, seed: int, epoch: int) -> None:
        with pytest.raises(ValueError, match=r"seed|epoch"):
            plan_epoch(sizes_of((1, 1)), sampler=sampler, batch_size=1, micro_batch_size=1, seed=seed, epoch=epoch)

    @pytest.mark.parametrize(
        "sizes_N2",
        [
            sizes_of(),
            sizes_of((480, 0)),
            sizes_of((-1, 3200)),
            sizes_of((480, 200_001)),
            np.array([480, 3200]),
            np.array([[480, 3200, 1]]),
            np.array([[480.0, 3200.0]]),
        ],
    )
    def test_sizes_that_are_empty_or_no_sides_are_refused(self, sampler: SamplerName, sizes_N2: SizeArray) -> None:
        with pytest.raises(ValueError, match="sizes"):
            plan_epoch(sizes_N2, sampler=sampler, batch_size=1, micro_batch_size=1, seed=0, epoch=0)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sorted.*random, bucketed"):
        plan_epoch(
            sizes_of((1, 1)),
            sampler="sorted",  # type: ignore[arg-type]
            batch_size=1,
            micro_batch_size=1,
            seed=0,
            epoch=0,
        )


class TestRandom:
    def test_batches_are_consecutive_cuts_of_one_order_whatever_the_batch_size(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 100, seed=0)
        orders = {
            tuple(
                chain.from_iterable(
                    plan_epoch(
                        sizes_N2, sampler="random", batch_size=batch, micro_batch_size=micro, seed=5, epoch=1
                    ).micro_batches
                )
            )
            for batch, micro in ((1, 1), (16, 16), (16, 4), (100, 50))
        }
        assert len(orders) == 1


class TestBucketed:
    def test_examples_of_a_batch_ascend_in_aligned_width(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 1003, seed=0)
        plan = plan_epoch(sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=4, seed=0, epoch=0)
        for batch in batches_of(plan):
            assert (np.diff(align(sizes_N2[batch, 1])) >= 0).all()

    def test_height_classes_meet_only_where_a_class_leaves_a_remainder(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 3000, seed=0)
        plan = plan_epoch(sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=16, seed=0, epoch=0)
        heights_N = align(sizes_N2[:, 0])
        classes = [np.unique(heights_N[batch]) for batch in batches_of(plan)]
        # Per class at most one remainder, of fewer than 16 examples, in at most 15 batches of the next class.
        assert sum(len(batch) > 1 for batch in classes) <= 15 * 5
        assert len(np.unique(heights_N)) == 6
        assert all(len(batch) <= 2 for batch in classes)

    def test_a_remainder_goes_to_the_next_taller_class(self) -> None:
        # 3 of height 32, 3 of 64, 4 of 96, in batches of 4: one is carried from 64 with three of 32, and so on.
        sizes_N2 = sizes_of(*[(32, 32)] * 3, *[(64, 32)] * 3, *[(96, 32)] * 4)
        plan = plan_epoch(sizes_N2, sampler="bucketed", batch_size=4, micro_batch_size=4, seed=0, epoch=0)
        *full, short = [sorted(sizes_N2[batch, 0].tolist()) for batch in batches_of(plan)]
        assert sorted(full) == [[32, 32, 32, 64], [64, 64, 96, 96]]
        assert short == [96, 96]

    def test_the_short_batch_is_last_and_of_the_tallest_class(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 1003, seed=0)
        for epoch in range(5):
            plan = plan_epoch(sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=16, seed=0, epoch=epoch)
            short = batches_of(plan)[-1]
            assert len(short) == 1003 % 16
            assert np.unique(align(sizes_N2[short, 0])).tolist() == [640]

    @pytest.mark.parametrize("num_batches", [POOL_BATCHES, POOL_BATCHES + 1, 3 * POOL_BATCHES + 1])
    def test_no_pool_is_so_small_that_its_batches_stay_unsorted(self, num_batches: int) -> None:
        one_height = SizeDistribution(widths=LOGS.widths, heights=PixelRange(start=640, stop=640))
        sizes_N2 = draw_sizes(one_height, num_batches * 16, seed=0)
        plan = plan_epoch(sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=16, seed=0, epoch=0)
        spans = [np.ptp(sizes_N2[batch, 1]) for batch in batches_of(plan)]
        # A pool of 17 batches spans the range of 9,600 px in steps of about 565 px.
        assert max(spans) < 9600 / 5

    def test_equal_sizes_stay_in_random_order(self) -> None:
        sizes_N2 = np.full((1600, 2), 640, dtype=np.int64)
        accounted = account_for_sampler(sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=16, seed=0)
        # Random batches repeat 15 / 1599 of their pairs, 0.9 %.
        assert accounted.repeated_pair_ratio == pytest.approx(15 / 1599, abs=0.003)
        assert accounted.padding_ratio == accounted.lower_bound_padding_ratio == 0
        assert accounted.distinct_shapes == 1


class TestAccount:
    def test_a_plan_of_three_examples_worked_by_hand(self) -> None:
        # Aligned: 32 x 32, 64 x 64, 32 x 96. Areas: 1024, 4096, 3072.
        sizes_N2 = sizes_of((10, 20), (33, 64), (32, 65))
        plan = BatchPlan(steps=(((0, 1), (2,)),))
        previous = BatchPlan(steps=(((0,), (2,)), ((1,),)))
        accounted = account(sizes_N2, plan, previous=previous)
        assert accounted.num_examples == 3
        assert accounted.num_batches == 2
        assert accounted.num_steps == 1
        assert accounted.valid_pixels == 10 * 20 + 33 * 64 + 32 * 65 == 4392
        assert accounted.padded_pixels == 2 * 64 * 64 + 1 * 32 * 96 == 11264
        assert accounted.padding_ratio == 1 - 4392 / 11264
        # The cheapest of the groupings into two: {1024} and {3072, 4096}.
        assert accounted.lower_bound_padding_ratio == 1 - 4392 / (1024 + 2 * 4096)
        assert accounted.distinct_shapes == 2
        # Of the pairs 01, 02 and 12 of the one step, 02 was in one step before, though not in one micro-batch.
        assert accounted.repeated_pair_ratio == pytest.approx(1 / 3)

    def test_a_canvas_takes_height_and_width_from_different_examples(self) -> None:
        accounted = account(sizes_of((32, 320), (320, 32)), BatchPlan(steps=(((0, 1),),)))
        assert accounted.padded_pixels == 2 * 320 * 320

    def test_canvases_of_different_counts_are_different_shapes(self) -> None:
        plan = BatchPlan(steps=(((0, 1),), ((2, 3),), ((4,),)))
        assert account(sizes_of(*[(32, 32)] * 5), plan).distinct_shapes == 2

    def test_pairs_are_none_without_a_previous_plan_and_without_pairs(self) -> None:
        sizes_N2 = sizes_of((1, 1), (2, 2))
        pairs, no_pairs = BatchPlan(steps=(((0, 1),),)), BatchPlan(steps=(((0,),), ((1,),)))
        assert account(sizes_N2, pairs).repeated_pair_ratio is None
        assert account(sizes_N2, no_pairs, previous=pairs).repeated_pair_ratio is None
        assert account(sizes_N2, pairs, previous=no_pairs).repeated_pair_ratio == 0

    @given(seed=st.integers(0, 1000), batch_size=st.integers(2, 7))
    @settings(max_examples=30, deadline=None)
    def test_repeated_pairs_are_those_that_counting_every_pair_finds(self, seed: int, batch_size: int) -> None:
        sizes_N2 = draw_sizes(LOGS, 40, seed=seed)
        first, second = (
            plan_epoch(
                sizes_N2,
                sampler="bucketed",
                batch_size=batch_size,
                micro_batch_size=1,
                seed=seed,
                epoch=epoch,
            )
            for epoch in (0, 1)
        )
        before, now = (
            {(a, b) for batch in batches_of(plan) for a in batch for b in batch if a < b} for plan in (first, second)
        )
        expected = len(before & now) / len(now)
        assert account(sizes_N2, second, previous=first).repeated_pair_ratio == expected

    @pytest.mark.parametrize(
        "steps", [(), (((0,),),), (((0, 1, 1),),), (((0, 2),),), (((0, -1),),), (((0, 1), ()),), (((0, 1),), ())]
    )
    def test_a_plan_that_does_not_hold_every_example_once_is_refused(
        self, steps: tuple[tuple[tuple[int, ...], ...], ...]
    ) -> None:
        sizes_N2 = sizes_of((1, 1), (2, 2))
        good = BatchPlan(steps=(((0, 1),),))
        with pytest.raises(ValueError, match="plan"):
            account(sizes_N2, BatchPlan(steps=steps))
        with pytest.raises(ValueError, match="plan"):
            account(sizes_N2, good, previous=BatchPlan(steps=steps))


class TestLowerBound:
    def padded_pixels(self, sizes_N2: SizeArray, plan: BatchPlan) -> float:
        accounted = account(sizes_N2, plan)
        return accounted.valid_pixels / (1 - accounted.lower_bound_padding_ratio)

    def test_two_short_groups_may_be_cheaper_than_a_full_one_with_the_rest(self) -> None:
        # Areas 1, 1, 10, 10 (x 1024) in two groups of at most three: 2 x 1 + 2 x 10, below 3 x 10 + 1 x 1.
        sizes_N2 = sizes_of((32, 32), (32, 32), (32, 320), (32, 320))
        plan = BatchPlan(steps=(((0, 1, 2),), ((3,),)))
        assert self.padded_pixels(sizes_N2, plan) == pytest.approx(22 * 1024)

    def test_full_groups_are_cut_from_the_sorted_areas(self) -> None:
        # Areas 1 to 6 (x 1024) in pairs: 2 x (2 + 4 + 6).
        sizes_N2 = sizes_of(*[(32, 32 * n) for n in (5, 1, 4, 2, 6, 3)])
        plan = BatchPlan(steps=(((0, 1), (2, 3)), ((4, 5),)))
        assert self.padded_pixels(sizes_N2, plan) == pytest.approx(24 * 1024)

    @given(
        sizes_N2=small_sizes(7),
        micro_batch_size=st.integers(1, 4),
        accumulation_steps=st.integers(1, 2),
        seed=st.integers(0, 10),
    )
    @settings(max_examples=60, deadline=None)
    def test_no_grouping_pads_less_and_one_grouping_reaches_it_in_one_dimension(
        self, sizes_N2: SizeArray, micro_batch_size: int, accumulation_steps: int, seed: int
    ) -> None:
        plan = plan_epoch(
            sizes_N2,
            sampler="random",
            batch_size=micro_batch_size * accumulation_steps,
            micro_batch_size=micro_batch_size,
            seed=seed,
            epoch=0,
        )
        groupings = list(
            partitions(tuple(range(len(sizes_N2))), num_groups=len(plan.micro_batches), largest_group=micro_batch_size)
        )
        aligned_N2 = align(sizes_N2)
        areas_N = aligned_N2.prod(axis=1)
        fewest_by_area = min(
            sum(len(group) * int(areas_N[list(group)].max()) for group in grouping) for grouping in groupings
        )
        fewest_by_canvas = min(
            sum(len(group) * int(aligned_N2[list(group)].max(axis=0).prod()) for group in grouping)
            for grouping in groupings
        )
        bound = self.padded_pixels(sizes_N2, plan)
        assert bound == pytest.approx(fewest_by_area)
        assert bound <= fewest_by_canvas * (1 + 1e-12)

    @given(sizes_N2=small_sizes(7), data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_the_bound_holds_for_a_plan_with_many_short_micro_batches(
        self, sizes_N2: SizeArray, data: st.DataObject
    ) -> None:
        order = data.draw(st.permutations(range(len(sizes_N2))))
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(order) - 1)), max_size=len(order) - 1)))
        bounds = [0, *cuts, len(order)]
        micro_batches = tuple(tuple(order[a:b]) for a, b in pairwise(bounds))
        plan = BatchPlan(steps=(micro_batches,))
        areas_N = align(sizes_N2).prod(axis=1)
        fewest = min(
            sum(len(group) * int(areas_N[list(group)].max()) for group in grouping)
            for grouping in partitions(
                tuple(range(len(sizes_N2))),
                num_groups=len(micro_batches),
                largest_group=max(map(len, micro_batches)),
            )
        )
        assert self.padded_pixels(sizes_N2, plan) == pytest.approx(fewest)


class TestAnchors:
    """12,000 images of 3,200 to 12,800 x 480 to 640 px in batches of 16; the tolerances cover other seeds."""

    sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)

    def test_random_batches_waste_43_percent_and_repeat_almost_no_pair(self) -> None:
        accounted = account_for_sampler(self.sizes_N2, sampler="random", batch_size=16, micro_batch_size=16, seed=0)
        assert accounted.padding_ratio == pytest.approx(0.428, abs=0.005)
        # A partner is one of the 15 of a batch among the 11,999 others: 0.125 %.
        assert accounted.repeated_pair_ratio == pytest.approx(15 / 11_999, abs=0.0005)

    def test_bucketed_batches_waste_5_percent_and_repeat_an_eighth_of_the_pairs(self) -> None:
        accounted = account_for_sampler(self.sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=16, seed=0)
        assert accounted.padding_ratio == pytest.approx(0.047, abs=0.002)
        assert accounted.repeated_pair_ratio == pytest.approx(0.126, abs=0.008)
        assert accounted.lower_bound_padding_ratio == pytest.approx(0.0295, abs=0.001)

    @every_sampler
    def test_single_examples_waste_what_alignment_costs(self, sampler: SamplerName) -> None:
        accounted = account_for_sampler(self.sizes_N2, sampler=sampler, batch_size=1, micro_batch_size=1, seed=0)
        assert accounted.padding_ratio == pytest.approx(0.0288, abs=0.001)
        assert accounted.padding_ratio == accounted.lower_bound_padding_ratio
        assert accounted.repeated_pair_ratio is None

    def test_micro_batches_of_a_bucketed_batch_group_its_like_sizes(self) -> None:
        whole, cut = (
            account_for_sampler(self.sizes_N2, sampler="bucketed", batch_size=16, micro_batch_size=micro, seed=0)
            for micro in (16, 4)
        )
        assert cut.padding_ratio < whole.padding_ratio - 0.01
        assert cut.repeated_pair_ratio == whole.repeated_pair_ratio
        assert (cut.num_steps, cut.num_batches) == (750, 3000)
