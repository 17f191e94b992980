"""One reading of the machine, taken several times a second beside every trial.

Run with: pytest benchmarks/suites/bench_host.py --benchmark-enable --benchmark-only
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.measure.host import PERIOD_S, HostReader
from vnbench.measure.sampling import MAX_CPU_SHARE


def test_read_the_host(benchmark: BenchmarkFixture) -> None:
    """What costs more than this share of a period is read more rarely."""
    reader = HostReader()
    if reader.read() is None:
        pytest.skip("needs /proc")
    benchmark(reader.read)
    benchmark.extra_info["target_s"] = MAX_CPU_SHARE * PERIOD_S
