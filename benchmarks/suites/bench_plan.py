"""Planning from 1,000 records compared with fitting them; the target is under 2 s, most of it for fitting."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.analysis.models.fit import fit_families
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.plan import plan_records
from vnbench.records.record import TrialRecord

NUM_RECORDS = 1000
VALUES = {"examples": 15_000, "epochs": 50, "window": 43_200.0, "interruptions": 3}


@pytest.fixture(name="records", scope="module")
def _records() -> Sequence[TrialRecord]:
    """Return compute trials of a GPU in many processes, and each family's worst case."""
    gpu = {"device": "cuda", "model": "veernet"}
    levers = [
        {"micro_batch_size": micro, "precision": precision, "checkpointing": checkpointing}
        for micro in (1, 2, 4, 8)
        for precision in ("fp32", "bf16")
        for checkpointing in ("none", "stages")
    ]
    specs = [factory.compute_spec(**gpu, **one) for one in levers]
    memory = [
        factory.measured_memory_record(factory.training_spec(**gpu, **{**one, "batch_size": one["micro_batch_size"]}))
        for one in levers
    ]
    timed = [
        factory.measured_compute_record(specs[number % len(specs)], replicate=number // len(specs))
        for number in range(NUM_RECORDS - len(memory))
    ]
    return [*timed, *memory]


def anew(records: Sequence[TrialRecord]) -> tuple[tuple[list[TrialRecord]], dict[str, Any]]:
    """Return copies, because results are cached with each record."""
    return (list(map(replace, records)),), {}


@pytest.mark.benchmark(group="1,000 records")
def test_planning(benchmark: BenchmarkFixture, records: Sequence[TrialRecord]) -> None:
    def planned(copies: list[TrialRecord]) -> PlanReport:
        return plan_records(Findings(copies), VALUES, sources=(Path("records.jsonl"),))

    report = benchmark.pedantic(planned, setup=lambda: anew(records), rounds=3)
    assert report.recommended.verdict == "fits"


@pytest.mark.benchmark(group="1,000 records")
def test_fitting(benchmark: BenchmarkFixture, records: Sequence[TrialRecord]) -> None:
    families, _ = benchmark.pedantic(fit_families, setup=lambda: anew(records), rounds=3)
    assert len(families) == 16
