"""Time of the gate for 50 configurations with ten processes per side, compared with scipy's t test per row."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.stats import ttest_ind

from vnbench.analysis.comparison.compare import compare
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of

NUM_ROWS, NUM_PROCESSES = 50, 10


def times(seed: int) -> list[list[float]]:
    drawn: list[list[float]] = np.exp(np.random.default_rng(seed).normal(0, 0.02, (NUM_ROWS, NUM_PROCESSES))).tolist()
    return drawn


def side(rows: list[list[float]]) -> Side:
    return Side(
        keys={},
        configurations={
            f"row {i}": Configuration(
                name=f"row {i}", statuses={"ok": NUM_PROCESSES}, figures={"time": figure_of(row, metric="time")}
            )
            for i, row in enumerate(rows)
        },
    )


@pytest.mark.benchmark(group="compare 50 configurations")
def test_the_gate(benchmark: BenchmarkFixture) -> None:
    comparison = benchmark(lambda: compare(side(times(0)), side(times(1))))
    assert len(comparison.rows) == 2 * NUM_ROWS + 1


@pytest.mark.benchmark(group="compare 50 configurations")
def test_a_t_test_per_row(benchmark: BenchmarkFixture) -> None:
    def tested() -> list[float]:
        return [
            float(ttest_ind(np.log(before), np.log(after)).pvalue)
            for before, after in zip(times(0), times(1), strict=True)
        ]

    assert len(benchmark(tested)) == NUM_ROWS
