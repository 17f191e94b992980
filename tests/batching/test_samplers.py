from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import LOGS, batches_of, config_of, sizes_of, small_sizes

from vnbench.batching.accounts import account, account_for_epoch
from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BUDGETED_SAMPLER, BatchPlan, PlanConfig
from vnbench.batching.samplers import SAMPLERS, sample_bucketed
from vnbench.batching.sizes import MAX_SEED, SizeArray, SizeDistribution, draw_sizes
from vnbench.records.spec.words import MAX_EPOCH, SAMPLER_NAMES, SamplerName
from vnbench.units import PixelRange

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)
every_random_sampler = pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "sorted"])
every_fixed_sampler = pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != BUDGETED_SAMPLER])


def test_every_sampler_name_has_a_sampler() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES


@every_sampler
class TestEverySampler:
    @given(
        sizes_N2=small_sizes(80, min_examples=24),
        micro_batch_size=st.integers(1, 6),
        accumulation_steps=st.integers(1, 4),
        shapes=st.one_of(st.none(), st.integers(1, 6)),
        seed=st.integers(0, MAX_SEED),
        epoch=st.integers(0, MAX_EPOCH),
    )
    @settings(max_examples=200, deadline=None)
    def test_plans_hold_every_example_once_in_full_steps_within_their_bounds(
        self,
        sampler: SamplerName,
        sizes_N2: SizeArray,
        micro_batch_size: int,
        accumulation_steps: int,
        shapes: int | None,
        seed: int,
        epoch: int,
    ) -> None:
        batch_size = micro_batch_size * accumulation_steps
        config = config_of(
            sampler, sizes_N2, batch_size=batch_size, micro_batch_size=micro_batch_size, shapes=shapes, seed=seed
        )
        plan = plan_epoch(sizes_N2, config, epoch=epoch)
        num_examples = len(sizes_N2)
        assert sorted(plan.order_N.tolist()) == list(range(num_examples))

        *full, last = [len(batch) for batch in batches_of(plan)]
        assert full == [batch_size] * ((num_examples - 1) // batch_size)
        assert last == (num_examples - 1) % batch_size + 1
        for examples, canvas in plan.micro_batches:
            assert (align(sizes_N2[list(examples)]) <= canvas).all()
            if sampler != BUDGETED_SAMPLER:
                assert len(examples) <= micro_batch_size

        accounted = account(sizes_N2, plan, previous=[plan, plan])
        assert 0 <= accounted.lower_bound_padding_ratio <= accounted.padding_ratio < 1
        assert accounted.num_examples == num_examples
        assert accounted.num_steps == len(plan.steps)
        assert accounted.num_batches == len(plan.micro_batches)
        assert 1 <= accounted.distinct_shapes <= accounted.num_batches
        if shapes is not None:
            assert len({micro_batch.canvas for micro_batch in plan.micro_batches}) <= shapes
        if config.pixel_budget is not None:
            assert accounted.largest_padded_pixels is not None
            assert accounted.largest_padded_pixels <= config.pixel_budget
        has_pairs = batch_size > 1
        assert accounted.repeated_pair_ratio == (1 if has_pairs else None)
        assert accounted.repeated_pair_ratio_two_before == (1 if has_pairs else None)

    def test_a_plan_depends_on_its_arguments_alone(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 1000, seed=0)
        config = config_of(sampler, sizes_N2, batch_size=16, micro_batch_size=4, seed=3)
        np.random.seed(1)
        one = plan_epoch(sizes_N2, config, epoch=2)
        np.random.seed(2)
        assert plan_epoch(sizes_N2.copy(), config, epoch=2) == one

    def test_a_batch_as_large_as_the_data_is_one_step(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 5, seed=0)
        plan = plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=5), epoch=0)
        assert [sorted(batch) for batch in batches_of(plan)] == [[0, 1, 2, 3, 4]]

    def test_fewer_examples_than_a_batch_are_refused(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 5, seed=0)
        with pytest.raises(ValueError, match="batch_size 6: there are only 5 examples"):
            plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=6), epoch=0)

    def test_examples_of_one_size_are_no_special_case(self, sampler: SamplerName) -> None:
        sizes_N2 = sizes_of(*[(640, 3200)] * 37)
        accounted = account_for_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=8, micro_batch_size=4))
        assert accounted.padding_ratio == 0
        assert accounted.num_steps == 5

    @pytest.mark.parametrize("epoch", [-1, MAX_EPOCH + 1])
    def test_an_epoch_outside_the_key_is_refused(self, sampler: SamplerName, epoch: int) -> None:
        sizes_N2 = sizes_of((1, 1))
        with pytest.raises(ValueError, match="epoch"):
            plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=1), epoch=epoch)

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
        config = config_of(sampler, sizes_of((640, 12_800)), batch_size=1)
        with pytest.raises(ValueError, match="sizes"):
            plan_epoch(sizes_N2, config, epoch=0)

    def test_single_examples_waste_what_alignment_costs(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)
        accounted = account_for_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=1))
        assert accounted.padding_ratio == pytest.approx(0.0288, abs=0.001)
        assert accounted.padding_ratio == accounted.lower_bound_padding_ratio


@every_random_sampler
class TestEveryRandomSampler:
    def test_seeds_and_epochs_give_plans_of_their_own(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 1000, seed=0)

        def plan(*, seed: int, epoch: int) -> BatchPlan:
            config = config_of(sampler, sizes_N2, batch_size=16, micro_batch_size=4, seed=seed)
            return plan_epoch(sizes_N2, config, epoch=epoch)

        assert len({plan(seed=seed, epoch=epoch) for seed in (3, 4) for epoch in (0, 1, 2)}) == 6
        # Neighbouring seeds and epochs must not share a stream: seed 3, epoch 4 is not seed 4, epoch 3.
        assert plan(seed=3, epoch=4) != plan(seed=4, epoch=3)

    def test_the_order_of_steps_does_not_follow_their_size(self, sampler: SamplerName) -> None:
        sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)
        plan = plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=16), epoch=0)
        areas = np.array([sizes_N2[batch].prod(axis=1).mean() for batch in batches_of(plan)])
        # Independent steps have a standard deviation of 1 / sqrt(750) = 0.037.
        assert abs(np.corrcoef(areas[:-1], areas[1:])[0, 1]) < 0.15
        assert abs(np.corrcoef(areas, np.arange(len(areas)))[0, 1]) < 0.15


@every_fixed_sampler
def test_micro_batches_are_full_but_for_the_last_of_the_epoch(sampler: SamplerName) -> None:
    sizes_N2 = draw_sizes(LOGS, 1003, seed=0)
    plan = plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=16, micro_batch_size=4), epoch=0)
    *full, last = plan.lengths_M.tolist()
    assert set(full) == {4}
    assert last == 1003 % 4


class TestConfig:
    def test_an_unknown_sampler_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"'shuffled'.*random, step-sorted, bucketed"):
            PlanConfig(sampler="shuffled", batch_size=1, micro_batch_size=1)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("batch_size", "micro_batch_size"), [(4, 3), (4, 8), (4, 0), (0, 1), (0, 0), (-4, -2), (4, -2)]
    )
    def test_a_micro_batch_that_does_not_divide_its_batch_is_refused(
        self, batch_size: int, micro_batch_size: int
    ) -> None:
        with pytest.raises(ValueError, match="must divide"):
            PlanConfig(sampler="random", batch_size=batch_size, micro_batch_size=micro_batch_size)

    @pytest.mark.parametrize(("sampler", "budget"), [("random", 1024), ("pixel-budget", None)])
    def test_a_budget_and_its_sampler_go_together(self, sampler: SamplerName, budget: int | None) -> None:
        with pytest.raises(ValueError, match="give both or neither"):
            PlanConfig(sampler=sampler, batch_size=1, micro_batch_size=1, pixel_budget=budget)

    @pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
    def test_a_seed_outside_the_key_is_refused(self, seed: int) -> None:
        with pytest.raises(ValueError, match="seed"):
            PlanConfig(sampler="random", batch_size=1, micro_batch_size=1, seed=seed)

    def test_no_shapes_at_all_are_refused(self) -> None:
        with pytest.raises(ValueError, match="shapes 0"):
            PlanConfig(sampler="random", batch_size=1, micro_batch_size=1, shapes=0)


class TestRandom:
    def test_batches_are_consecutive_cuts_of_one_order_whatever_the_batch_size(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 100, seed=0)
        orders = {
            tuple(
                plan_epoch(
                    sizes_N2,
                    config_of("random", sizes_N2, batch_size=batch, micro_batch_size=micro, seed=5),
                    epoch=1,
                ).order_N.tolist()
            )
            for batch, micro in ((1, 1), (16, 16), (16, 4), (100, 50))
        }
        assert len(orders) == 1


class TestStepSorted:
    def test_each_step_has_the_examples_of_the_random_order(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 1003, seed=0)
        ours, random = (
            plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=16, micro_batch_size=2, seed=5), epoch=1)
            for sampler in ("step-sorted", "random")
        )
        assert [sorted(batch) for batch in batches_of(ours)] == [sorted(batch) for batch in batches_of(random)]

    def test_examples_of_like_size_share_a_pass_worked_by_hand(self) -> None:
        # Largest first: 2 (96 x 96) with its like 0, then 3 (32 x 128) with 1, which needs no larger canvas.
        sizes_N2 = sizes_of((96, 64), (32, 128), (96, 96), (32, 120))
        config = config_of("step-sorted", sizes_N2, batch_size=4, micro_batch_size=2)
        (step,) = plan_epoch(sizes_N2, config, epoch=0).steps
        assert [(set(examples), canvas) for examples, canvas in step] == [({0, 2}, (96, 96)), ({1, 3}, (32, 128))]

    def test_in_passes_of_one_it_is_random(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 50, seed=0)
        ours, random = (
            plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=4, micro_batch_size=1), epoch=0)
            for sampler in ("step-sorted", "random")
        )
        assert ours == random


class TestBucketed:
    def test_height_classes_meet_only_where_a_class_leaves_a_remainder(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 3000, seed=0)
        plan = plan_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16), epoch=0)
        heights_N = align(sizes_N2[:, 0])
        classes = [np.unique(heights_N[batch]) for batch in batches_of(plan)]
        # Per class at most one remainder, of fewer than 16 examples, in at most 15 batches of the next class.
        assert sum(len(batch) > 1 for batch in classes) <= 15 * 5
        assert len(np.unique(heights_N)) == 6
        assert all(len(batch) <= 2 for batch in classes)

    def test_a_remainder_goes_to_the_next_taller_class(self) -> None:
        # 3 of height 32, 3 of 64, 4 of 96, in batches of 4: one is carried from 64 with three of 32, and so on.
        sizes_N2 = sizes_of(*[(32, 32)] * 3, *[(64, 32)] * 3, *[(96, 32)] * 4)
        plan = plan_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=4), epoch=0)
        *full, short = [sorted(sizes_N2[batch, 0].tolist()) for batch in batches_of(plan)]
        assert sorted(full) == [[32, 32, 32, 64], [64, 64, 96, 96]]
        assert short == [96, 96]

    def test_the_short_batch_is_last_and_of_the_tallest_class(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 12_003, seed=0)
        for epoch in range(5):
            plan = plan_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16), epoch=epoch)
            short = batches_of(plan)[-1]
            assert len(short) == 12_003 % 16
            assert np.unique(align(sizes_N2[short, 0])).tolist() == [640]

    def test_few_examples_share_classes_of_several_heights_where_that_pads_less(self) -> None:
        # 60 heights with one example each: alone in its class, each would go to the next with whatever width it has.
        heights_N = 32 * np.arange(1, 61)
        widths_N = np.where(np.arange(60) % 2, 12_800, 3200)
        sizes_N2 = np.stack([heights_N, widths_N], axis=1)
        plan = plan_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=4), epoch=0)
        mixed = sum(len(set(sizes_N2[batch, 1].tolist())) > 1 for batch in batches_of(plan))
        assert mixed <= 4, "wide and narrow ones are kept apart"

    def test_equal_sizes_stay_in_random_order(self) -> None:
        sizes_N2 = np.full((1600, 2), 640, dtype=np.int64)
        accounted = account_for_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16))
        # Random batches repeat 15 / 1599 of their pairs, 0.9 %.
        assert accounted.repeated_pair_ratio == pytest.approx(15 / 1599, abs=0.003)
        assert accounted.padding_ratio == accounted.lower_bound_padding_ratio == 0
        assert accounted.distinct_shapes == 1

    def test_more_jitter_pads_more_and_repeats_less(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 4000, seed=0)
        config = config_of("bucketed", sizes_N2, batch_size=16)

        def figures(jitter_batches: float) -> tuple[float, float]:
            plans = []
            for seed in (0, 1):
                order_N, lengths_M, passes_S = sample_bucketed(
                    align(sizes_N2), config, np.random.default_rng(seed), jitter_batches=jitter_batches
                )
                starts = np.cumsum(lengths_M) - lengths_M
                canvases_M2 = np.maximum.reduceat(align(sizes_N2)[order_N], starts, axis=0)
                plans.append(
                    BatchPlan(order_N=order_N, lengths_M=lengths_M, canvases_M2=canvases_M2, passes_S=passes_S)
                )
            accounted = account(sizes_N2, plans[0], previous=plans[1:])
            assert accounted.repeated_pair_ratio is not None
            return accounted.padding_ratio, accounted.repeated_pair_ratio

        curve = [figures(jitter) for jitter in (0.0, 0.5, 2.0, 8.0, 100.0)]
        assert all(less[0] < more[0] and less[1] > more[1] for less, more in pairwise(curve))

    def test_examples_of_a_pass_are_alike_within_a_step(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 4000, seed=0)
        fine, coarse = (
            account_for_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16, micro_batch_size=micro))
            for micro in (2, 16)
        )
        assert fine.padding_ratio < coarse.padding_ratio
        assert fine.repeated_pair_ratio == coarse.repeated_pair_ratio, "the steps are the same"


class TestPixelBudget:
    def test_no_pass_is_above_the_budget_and_fewer_passes_would_be(self) -> None:
        one_height = SizeDistribution(widths=LOGS.widths, heights=PixelRange(start=640, stop=640))
        sizes_N2 = draw_sizes(one_height, 1000, seed=0)
        config = config_of("pixel-budget", sizes_N2, batch_size=16, micro_batch_size=2)
        assert config.pixel_budget == 2 * 640 * 12_800
        plan = plan_epoch(sizes_N2, config, epoch=0)
        for step, batch in zip(plan.steps, batches_of(plan), strict=True):
            assert max(micro_batch.padded_pixels for micro_batch in step) <= config.pixel_budget
            # In one dimension filling passes from the widest down needs the fewest.
            fewest, num_members, widest = 0, 0, 0
            for width in sorted(align(sizes_N2[batch, 1]).tolist(), reverse=True):
                if num_members == 0 or (num_members + 1) * 640 * widest > config.pixel_budget:
                    fewest, num_members, widest = fewest + 1, 0, width
                num_members += 1
            assert len(step) == fewest

    def test_passes_are_evened_out_where_the_budget_allows(self) -> None:
        # Fifteen fit into one pass, sixteen do not.
        sizes_N2 = sizes_of(*[(640, 3200)] * 16)
        budget = 15 * 640 * 3200
        config = PlanConfig(sampler="pixel-budget", batch_size=16, micro_batch_size=16, pixel_budget=budget)
        assert plan_epoch(sizes_N2, config, epoch=0).lengths_M.tolist() == [8, 8]

    def test_narrow_images_share_passes_that_hold_two_wide_ones(self) -> None:
        sizes_N2 = sizes_of(*[(640, 12_800)] * 8, *[(640, 3200)] * 8)
        config = config_of("pixel-budget", sizes_N2, batch_size=8, micro_batch_size=2)
        passes = plan_epoch(sizes_N2, config, epoch=0).lengths_M.tolist()
        assert sorted(passes) == [2, 2, 2, 2, 8]

    def test_a_budget_below_one_example_is_refused(self) -> None:
        config = PlanConfig(sampler="pixel-budget", batch_size=1, micro_batch_size=1, pixel_budget=640 * 12_800 - 1)
        with pytest.raises(ValueError, match="8191999: one example alone takes 8192000"):
            plan_epoch(sizes_of((640, 12_800)), config, epoch=0)

    def test_steps_are_those_of_bucketed(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 1003, seed=0)
        ours, bucketed = (
            plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=16, micro_batch_size=2), epoch=1)
            for sampler in ("pixel-budget", "bucketed")
        )
        assert [sorted(batch) for batch in batches_of(ours)] == [sorted(batch) for batch in batches_of(bucketed)]
        assert len(ours.lengths_M) < len(bucketed.lengths_M)


class TestSorted:
    def test_every_epoch_descends_in_height_then_width(self) -> None:
        sizes_N2 = draw_sizes(LOGS, 200, seed=0)
        config = config_of("sorted", sizes_N2, batch_size=16)
        plan = plan_epoch(sizes_N2, config, epoch=0)
        rows = align(sizes_N2[plan.order_N]).tolist()
        assert rows == sorted(rows, reverse=True)
        assert plan_epoch(sizes_N2, config, epoch=9) == plan


class TestAnchors:
    """12,000 images of 3,200 to 12,800 x 480 to 640 px in batches of 16; the tolerances cover other seeds."""

    sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)

    def test_random_batches_waste_43_percent_and_repeat_almost_no_pair(self) -> None:
        accounted = account_for_epoch(self.sizes_N2, config_of("random", self.sizes_N2, batch_size=16))
        assert accounted.padding_ratio == pytest.approx(0.428, abs=0.005)
        # A partner is one of the 15 of a batch among the 11,999 others: 0.125 %.
        assert accounted.repeated_pair_ratio == pytest.approx(15 / 11_999, abs=0.0005)

    def test_bucketed_batches_waste_at_most_5_percent_and_repeat_a_tenth_of_the_pairs(self) -> None:
        accounted = account_for_epoch(self.sizes_N2, config_of("bucketed", self.sizes_N2, batch_size=16))
        assert accounted.padding_ratio == pytest.approx(0.048, abs=0.001)
        # 1 / (4 x 2.2) by the law of the jitter, less at the ends of the classes.
        assert accounted.repeated_pair_ratio == pytest.approx(0.108, abs=0.005)
        assert accounted.repeated_pair_ratio_two_before == pytest.approx(0.108, abs=0.005)
        assert accounted.repeated_pair_ratio_either == pytest.approx(0.20, abs=0.01)
        assert accounted.lower_bound_padding_ratio == pytest.approx(0.0295, abs=0.001)

    def test_sorting_pairs_within_random_steps_leaves_10_percent(self) -> None:
        config = config_of("step-sorted", self.sizes_N2, batch_size=16, micro_batch_size=2)
        accounted = account_for_epoch(self.sizes_N2, config)
        assert accounted.padding_ratio == pytest.approx(0.097, abs=0.002)
        assert accounted.repeated_pair_ratio == pytest.approx(15 / 11_999, abs=0.0005)

    def test_a_budget_of_two_worst_case_images_saves_passes_at_3_percent(self) -> None:
        config = config_of("pixel-budget", self.sizes_N2, batch_size=16, micro_batch_size=2)
        accounted = account_for_epoch(self.sizes_N2, config)
        assert accounted.padding_ratio < 0.04
        assert accounted.num_batches < 0.75 * 6000

    def test_heavy_tailed_widths_waste_under_a_quarter_of_random(self) -> None:
        rng = np.random.default_rng(0)
        widths_N = np.minimum(3200 * (1 + rng.pareto(1.6, size=12_000)), 40_000).astype(np.int64)
        sizes_N2 = np.stack([rng.integers(480, 641, size=12_000), widths_N], axis=1)
        bucketed, random = (
            account_for_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=16))
            for sampler in ("bucketed", "random")
        )
        assert bucketed.padding_ratio < random.padding_ratio / 4


class TestFaultsOfOtherSamplers:
    """What was seen to go wrong in samplers of other projects."""

    sizes_N2 = draw_sizes(LOGS, 1003, seed=0)

    @every_random_sampler
    def test_batches_are_made_anew_and_not_only_reordered(self, sampler: SamplerName) -> None:
        # Frozen batches, whose order alone was shuffled, repeat every pair.
        config = config_of(sampler, self.sizes_N2, batch_size=16)
        frozen = {frozenset(batch) for batch in batches_of(plan_epoch(self.sizes_N2, config, epoch=0))}
        again = {frozenset(batch) for batch in batches_of(plan_epoch(self.sizes_N2, config, epoch=1))}
        assert not frozen & again

    @every_sampler
    @pytest.mark.parametrize("num_examples", [15 * 16, 15 * 16 + 1, 16 * 16 - 1])
    def test_the_last_batch_is_neither_lost_nor_filled_up_with_repeats(
        self, sampler: SamplerName, num_examples: int
    ) -> None:
        sizes_N2 = self.sizes_N2[:num_examples]
        plan = plan_epoch(sizes_N2, config_of(sampler, sizes_N2, batch_size=16), epoch=0)
        assert Counter(plan.order_N.tolist()) == dict.fromkeys(range(num_examples), 1)
        assert len(plan.steps) == -(-num_examples // 16)

    @every_sampler
    def test_a_size_that_is_missing_is_refused_and_does_not_turn_grouping_off(self, sampler: SamplerName) -> None:
        config = config_of(sampler, self.sizes_N2, batch_size=16)
        with pytest.raises(ValueError, match="sizes from 0"):
            plan_epoch(np.zeros((100, 2), dtype=np.int64), config, epoch=0)

    def test_a_budget_counts_padding_and_not_the_sum_of_lengths(self) -> None:
        # One wide and many narrow examples: the sum of their areas is below the budget, their canvases are not.
        sizes_N2 = sizes_of((640, 12_800), *[(640, 32)] * 15)
        config = config_of("pixel-budget", sizes_N2, batch_size=16, micro_batch_size=1)
        plan = plan_epoch(sizes_N2, config, epoch=0)
        assert max(micro_batch.padded_pixels for micro_batch in plan.micro_batches) <= 640 * 12_800
        assert plan.lengths_M.tolist() == [1, 15]

    def test_groups_end_in_no_batches_of_a_single_example(self) -> None:
        # A budget that is closed at the end of each group leaves one short pass per group.
        sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)
        config = config_of("pixel-budget", sizes_N2, batch_size=16, micro_batch_size=8)
        plan = plan_epoch(sizes_N2, config, epoch=0)
        assert np.mean(plan.lengths_M == 1) < 0.01

    def test_skewed_widths_leave_no_bucket_that_multiplies_the_batches(self) -> None:
        # Buckets of equal range, most of them nearly empty, made five times as many batches.
        one_height = SizeDistribution(
            widths=PixelRange(start=32, stop=100_000), heights=PixelRange(start=32, stop=32), law="log-uniform"
        )
        sizes_N2 = draw_sizes(one_height, 1000, seed=0)
        accounted = account_for_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16))
        assert accounted.num_batches == -(-1000 // 16)

    def test_one_size_class_that_holds_all_images_is_still_sorted(self) -> None:
        # Grouping by orientation alone does nothing where all images are wider than high.
        one_height = SizeDistribution(widths=LOGS.widths, heights=PixelRange(start=640, stop=640))
        sizes_N2 = draw_sizes(one_height, 4000, seed=0)
        assert account_for_epoch(sizes_N2, config_of("bucketed", sizes_N2, batch_size=16)).padding_ratio < 0.03

    def test_widths_of_neighbouring_steps_are_not_correlated(self) -> None:
        # Steps that stay sorted within a group make a saw-tooth of 0.76.
        accounted = account_for_epoch(self.sizes_N2, config_of("bucketed", self.sizes_N2, batch_size=4))
        assert accounted.lag_1_width_correlation is not None
        assert abs(accounted.lag_1_width_correlation) < 0.2

    @every_random_sampler
    def test_the_order_follows_the_users_seed(self, sampler: SamplerName) -> None:
        # A generator with a seed of its own makes the same choice of buckets in every run.
        orders = {
            tuple(
                chain.from_iterable(
                    batches_of(
                        plan_epoch(self.sizes_N2, config_of(sampler, self.sizes_N2, batch_size=16, seed=seed), epoch=0)
                    )
                )
            )
            for seed in range(5)
        }
        assert len(orders) == 5
