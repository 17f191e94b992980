"""A report of 10,000 records compared with reading them, and its planner compared with the equivalent command.

Targets: a report of 10,000 records in under 9 s of CPU time, with a page of under 5 MB; a response to a control on the
page within 100 ms. The planner's part needs Chromium and playwright (pip install -e '.[dev]'). Add
--benchmark-timer=time.process_time for CPU time; bench_trees.py compares it with that of another checkout.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.cli.app import run
from vnbench.commands.plan.asked import plan_values
from vnbench.commands.plan.plan import plan_records
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_all

NUM_RECORDS = 10_000

MAX_PAGE_BYTES = 5_000_000

SHIPPED = Path(__file__).parents[2] / "results/cpu-amd-epyc/wallclock.jsonl"

ROUNDS = 20
"""Changes of a control per measurement of the page, because its clock is coarse."""


def records_of_a_gpu() -> list[TrialRecord]:
    """Return the trials of a campaign on a GPU: half of them training, half computing, and loader and memory trials."""
    gpu = {"device": "cuda", "model": "veernet"}
    precisions = (("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "input"))
    levers: list[dict[str, Any]] = [
        {"micro_batch_size": micro, "precision": precision, "norm_precision": norm, "checkpointing": checkpointing}
        for micro in (1, 2, 4, 8, 16)
        for precision, norm in precisions
        for checkpointing in ("none", "stages")
    ]
    records = [
        factory.measured_memory_record(factory.training_spec(**gpu, **{**one, "batch_size": one["micro_batch_size"]}))
        for one in levers
    ]
    records += [
        factory.measured_loader_record(
            factory.loader_spec(**gpu, batch_size=micro, num_workers=workers, sampler=sampler), replicate=replicate
        )
        for workers in (0, 1, 2, 4, 8)
        for micro in (1, 2, 4, 8, 16)
        for sampler in ("random", "bucketed")
        for replicate in range(3)
    ]
    training = [
        factory.training_spec(**gpu, **{**one, "batch_size": batch}, sampler=sampler)
        for one in levers
        for batch in (1, 2, 4, 8, 16)
        if batch % one["micro_batch_size"] == 0
        for sampler in ("random", "bucketed")
    ]
    compute = [factory.compute_spec(**gpu, **one) for one in levers]
    for number in range((NUM_RECORDS - len(records)) // 2):
        replicate, which = divmod(number, len(training))
        records.append(factory.measured_training_record(training[which], replicate=replicate))
        replicate, which = divmod(number, len(compute))
        records.append(factory.measured_compute_record(compute[which], replicate=replicate))
    return records


def records_of_many_sizes() -> list[TrialRecord]:
    """Return ten compute trials each of 33 specs of one family, whose canvases all differ: 297 sizes."""
    specs = [
        factory.compute_spec(canvas_sizes=tuple((512, 3200 + 32 * (first + 33 * number)) for number in range(9)))
        for first in range(33)
    ]
    return [factory.measured_compute_record(spec, replicate=replicate) for spec in specs for replicate in range(10)]


@pytest.fixture(name="results", scope="module")
def _results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "records.jsonl"
    path.write_text("".join(f"{record.to_json()}\n" for record in records_of_a_gpu()), encoding="utf-8")
    return path


@pytest.mark.benchmark(group="report of 10,000 records")
def test_reporting(benchmark: BenchmarkFixture, results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    assert benchmark.pedantic(lambda: run(["report", str(results), "--out", str(out)]), rounds=2) == 0
    assert (out / "report.html").stat().st_size < MAX_PAGE_BYTES


@pytest.mark.benchmark(group="report of 10,000 records")
def test_reading(benchmark: BenchmarkFixture, results: Path) -> None:
    loaded = benchmark.pedantic(lambda: load_all([results]), rounds=2)
    assert len(loaded.records) == NUM_RECORDS


@pytest.mark.benchmark(group="a plan of the shipped records")
def test_a_control_of_the_page(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or pytest.skip("no Chromium on this machine")
    assert run(["report", str(SHIPPED), "--out", str(tmp_path), "--interruptions", "3"]) == 0
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto((tmp_path / "report.html").as_uri())
        change = f"for (let i = 0; i < {ROUNDS}; i++) {{ form.elements.epochs.value = i + 1; update(); }}"
        benchmark.extra_info["changes"] = ROUNDS
        benchmark.pedantic(lambda: page.evaluate(change), rounds=5, warmup_rounds=1)
        browser.close()


@pytest.mark.benchmark(group="a plan of the shipped records")
def test_the_command(benchmark: BenchmarkFixture) -> None:
    records = load_all([SHIPPED]).records
    values = plan_values({"examples": "15000", "epochs": "50", "interruptions": "3"})

    def plans() -> None:
        for _ in range(ROUNDS):
            plan_records(Findings(records), values, sources=(SHIPPED,))

    benchmark.pedantic(plans, rounds=2)
