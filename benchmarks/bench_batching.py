"""Time of one sampler's padding account: two epochs planned, the second accounted for.

Run with ``pytest benchmarks/bench_batching.py --benchmark-only``.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.data.batching import SAMPLERS, account_for_sampler
from vnbench.data.sizes import SizeDistribution, draw_sizes
from vnbench.spec import SamplerName
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12800), heights=PixelRange(start=480, stop=640))


@pytest.mark.parametrize("num_examples", [12_000, 100_000])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_account_for_sampler(benchmark: BenchmarkFixture, sampler: SamplerName, num_examples: int) -> None:
    sizes_N2 = draw_sizes(LOGS, num_examples, seed=0)
    accounted = benchmark(account_for_sampler, sizes_N2, sampler=sampler, batch_size=16, micro_batch_size=4, seed=0)
    assert accounted.num_examples == num_examples
