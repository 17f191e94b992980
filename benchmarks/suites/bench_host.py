"""Time of one reading of the machine, which every trial takes several times a second.

Run with: pytest benchmarks/suites/bench_host.py --benchmark-enable --benchmark-only
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.measure.host import PERIOD_S, HostReader
from vnbench.measure.sampling import MAX_CPU_SHARE


def test_read_the_host(benchmark: BenchmarkFixture) -> None:
    """Time one reading. If it took longer than ``target_s``, readings would become rarer."""
    reader = HostReader()
    if reader.read() is None:
        pytest.skip("needs /proc")
    benchmark(reader.read)
    benchmark.extra_info["target_s"] = MAX_CPU_SHARE * PERIOD_S
