"""The pages of a report of 1,000 trials from their model, beside putting the same cells together with plain strings."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import record_factory as factory

from vnbench.output.report_model import COLUMNS, HOW, LIMITS, TrialRow, trial_rows
from vnbench.output.report_pages import html_page, markdown_page

NUM_TRIALS = 1000


@pytest.fixture(name="rows", scope="module")
def _rows() -> Sequence[TrialRow]:
    spec = factory.training_spec(batch_size=2)
    return trial_rows([factory.measured_training_record(spec, replicate=number) for number in range(NUM_TRIALS)])


def model(rows: Sequence[TrialRow]) -> dict[str, object]:
    return {
        "title": "Trials",
        "origin": "a machine",
        "answer": ["an answer"],
        "paste": "",
        "warnings": [],
        "planner": None,
        "figures": [],
        "left_out": [],
        "ledger": (),
        "fits": (),
        "columns": COLUMNS,
        "rows": rows,
        "environment": [],
        "how": HOW,
        "limits": LIMITS,
        "command": "vnbench report",
    }


@pytest.mark.benchmark(group="report of 1,000 trials")
def test_html(benchmark: BenchmarkFixture, rows: Sequence[TrialRow]) -> None:
    assert benchmark(lambda: html_page(model(rows))).count("<tr") > NUM_TRIALS


@pytest.mark.benchmark(group="report of 1,000 trials")
def test_markdown(benchmark: BenchmarkFixture, rows: Sequence[TrialRow]) -> None:
    assert benchmark(lambda: markdown_page(model(rows))).count("\n| training") == NUM_TRIALS


@pytest.mark.benchmark(group="report of 1,000 trials")
def test_plain_strings(benchmark: BenchmarkFixture, rows: Sequence[TrialRow]) -> None:
    def joined() -> str:
        return "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells) + "</tr>" for row in rows
        )

    assert benchmark(joined).count("<tr") == NUM_TRIALS
