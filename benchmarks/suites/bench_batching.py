"""Time to plan an epoch and to account for it, by sampler.

Run with ``pytest benchmarks/suites/bench_batching.py --benchmark-only``. ``sampler_peers.py`` shows how the time grows
with the number of examples, and compares the plans with those of other projects' samplers.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.epoch import plan_epoch, worst_case_budget
from vnbench.batching.plan import BUDGETED_SAMPLER, PlanConfig
from vnbench.batching.samplers import SAMPLERS
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.records.spec.words import SamplerName
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12800), heights=PixelRange(start=480, stop=640))

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def settings(sizes_N2: SizeArray, sampler: SamplerName) -> PlanConfig:
    budget = worst_case_budget(sizes_N2, micro_batch_size=4) if sampler == BUDGETED_SAMPLER else None
    return PlanConfig(sampler=sampler, batch_size=16, micro_batch_size=4, pixel_budget=budget)


@pytest.mark.parametrize("num_examples", [12_000, 100_000])
@every_sampler
def test_plan_epoch(benchmark: BenchmarkFixture, sampler: SamplerName, num_examples: int) -> None:
    sizes_N2 = draw_sizes(LOGS, num_examples, seed=0)
    plan = benchmark(plan_epoch, sizes_N2, settings(sizes_N2, sampler), epoch=0)
    assert len(plan.order_N) == num_examples


@every_sampler
def test_account_for_epoch(benchmark: BenchmarkFixture, sampler: SamplerName) -> None:
    sizes_N2 = draw_sizes(LOGS, 12_000, seed=0)
    accounted = benchmark(account_for_epoch, sizes_N2, settings(sizes_N2, sampler))
    assert accounted.num_examples == 12_000
