from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import LOGS, batches_of, config_of, plan_of, sizes_of, small_sizes

from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.ranks import deal_to_ranks, step_efficiency
from vnbench.batching.samplers import SAMPLERS
from vnbench.batching.sizes import SizeArray, draw_sizes
from vnbench.records.spec.words import SamplerName

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


@every_sampler
@given(
    sizes_N2=small_sizes(60, min_examples=24),
    micro_batch_size=st.integers(1, 4),
    accumulation_steps=st.integers(1, 4),
    data=st.data(),
    seed=st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_ranks_have_equal_steps_of_the_planned_examples_and_none_is_empty(
    sampler: SamplerName,
    sizes_N2: SizeArray,
    micro_batch_size: int,
    accumulation_steps: int,
    data: st.DataObject,
    seed: int,
) -> None:
    num_ranks = data.draw(st.integers(1, micro_batch_size * accumulation_steps))
    config = config_of(
        sampler,
        sizes_N2,
        batch_size=micro_batch_size * accumulation_steps,
        micro_batch_size=micro_batch_size,
        seed=seed,
    )
    plan = plan_epoch(sizes_N2, config, epoch=0)
    ranks = deal_to_ranks(sizes_N2, plan, config, num_ranks=num_ranks)
    assert len(ranks) == num_ranks
    assert len({len(rank.steps) for rank in ranks}) == 1
    planned = batches_of(plan)
    dealt = [sorted(chain.from_iterable(shares)) for shares in zip(*map(batches_of, ranks), strict=True)]
    # Steps of fewer examples than ranks are joined from the end; the others are untouched.
    assert dealt[:-1] == [sorted(batch) for batch in planned[: len(dealt) - 1]]
    assert dealt[-1] == sorted(chain.from_iterable(planned[len(dealt) - 1 :]))
    for rank in ranks:
        for step in rank.steps:
            assert step
            for examples, canvas in step:
                assert len(examples) >= 1
                assert (align(sizes_N2[list(examples)]) <= canvas).all()
                if sampler != "pixel-budget":
                    assert len(examples) <= micro_batch_size
    if config.pixel_budget is not None:
        assert max(int(rank.padded_pixels_M.max()) for rank in ranks) <= config.pixel_budget
    assert 0 < step_efficiency(ranks) <= 1


def test_one_rank_has_the_whole_plan() -> None:
    sizes_N2 = draw_sizes(LOGS, 100, seed=0)
    config = config_of("bucketed", sizes_N2, batch_size=8, micro_batch_size=2)
    plan = plan_epoch(sizes_N2, config, epoch=0)
    (only,) = deal_to_ranks(sizes_N2, plan, config, num_ranks=1)
    assert [sorted(batch) for batch in batches_of(only)] == [sorted(batch) for batch in batches_of(plan)]
    assert step_efficiency([only]) == 1


def test_passes_go_to_the_rank_with_the_fewest_pixels_worked_by_hand() -> None:
    # Areas 4, 3, 2 and 1 (x 1024): 4 + 1 and 3 + 2.
    sizes_N2 = sizes_of((32, 128), (32, 96), (32, 64), (32, 32))
    config = config_of("random", sizes_N2, batch_size=4, micro_batch_size=1)
    ranks = deal_to_ranks(sizes_N2, plan_of(sizes_N2, [[[0], [1], [2], [3]]]), config, num_ranks=2)
    assert [batches_of(rank) for rank in ranks] == [[[0, 3]], [[1, 2]]]
    assert step_efficiency(ranks) == 1


def test_a_costly_pass_is_halved_where_passes_do_not_go_round() -> None:
    sizes_N2 = sizes_of(*[(32, 128)] * 4, *[(32, 32)] * 2)
    config = config_of("random", sizes_N2, batch_size=6, micro_batch_size=6)
    ranks = deal_to_ranks(sizes_N2, plan_of(sizes_N2, [[[0, 1, 2, 3, 4, 5]]]), config, num_ranks=2)
    assert [batches_of(rank) for rank in ranks] == [[[0, 1, 2]], [[3, 4, 5]]]
    assert [rank.canvases_M2.tolist() for rank in ranks] == [[[32, 128]], [[32, 128]]]


def test_a_last_step_of_fewer_examples_than_ranks_joins_the_step_before() -> None:
    sizes_N2 = draw_sizes(LOGS, 18, seed=0)
    config = config_of("random", sizes_N2, batch_size=8, micro_batch_size=2)
    plan = plan_epoch(sizes_N2, config, epoch=0)
    assert plan.lengths_S.tolist() == [8, 8, 2]
    few, many = (deal_to_ranks(sizes_N2, plan, config, num_ranks=number) for number in (2, 4))
    assert [len(rank.steps) for rank in few] == [3, 3]
    assert [len(rank.steps) for rank in many] == [2, 2, 2, 2]


@pytest.mark.parametrize("num_ranks", [0, 6])
def test_no_ranks_or_more_than_examples_are_refused(num_ranks: int) -> None:
    sizes_N2 = draw_sizes(LOGS, 5, seed=0)
    config = config_of("random", sizes_N2, batch_size=5)
    plan = plan_epoch(sizes_N2, config, epoch=0)
    with pytest.raises(ValueError, match=f"num_ranks {num_ranks}: must be within 1 to 5"):
        deal_to_ranks(sizes_N2, plan, config, num_ranks=num_ranks)


def test_bucketed_steps_keep_eight_ranks_busy_where_random_ones_leave_a_quarter_idle() -> None:
    sizes_N2 = draw_sizes(LOGS, 4000, seed=0)

    def efficiency(sampler: SamplerName) -> float:
        config = config_of(sampler, sizes_N2, batch_size=16, micro_batch_size=2)
        plan = plan_epoch(sizes_N2, config, epoch=0)
        return step_efficiency(deal_to_ranks(sizes_N2, plan, config, num_ranks=8))

    assert efficiency("bucketed") > 0.95
    assert efficiency("random") == pytest.approx(0.76, abs=0.02)


def test_efficiency_is_the_mean_over_the_largest_summed_over_steps() -> None:
    sizes_N2 = sizes_of((32, 32), (32, 96), (32, 64), (32, 64))
    plans = [plan_of(sizes_N2, [[[0]], [[2]]]), plan_of(sizes_N2, [[[1]], [[3]]])]
    # Means 2 and 2 (x 1024), largest 3 and 2.
    assert step_efficiency(plans) == pytest.approx(4 / 5)
    assert np.isclose(step_efficiency(plans[:1]), 1)
