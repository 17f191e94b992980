"""Cost of a results file: appending a record compared with a bare write, loading compared with parsing its lines.

Run with: pytest benchmarks/suites/bench_store.py --benchmark-only

Every group is one comparison. Both ways of appending wait for the disk, so read the ratio of the medians. Most of the
time beyond the disk is encoding, which has its own group.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.records.record import TrialRecord
from vnbench.records.store import ResultsFile, load_all, load_results

RESULTS = Path(__file__).parents[2] / "results" / "cpu-amd-epyc" / "wallclock.jsonl"
NUM_RECORDS = 1000
NUM_APPENDS = 200


@pytest.fixture(scope="module")
def records() -> tuple[TrialRecord, ...]:
    """Return measured records of every kind, repeated as further processes until there are enough."""
    measured = load_all([RESULTS]).records
    copies = enumerate(itertools.islice(itertools.cycle(measured), NUM_RECORDS))
    return tuple(replace(record, replicate=number) for number, record in copies)


@pytest.fixture(scope="module")
def results_path(records: tuple[TrialRecord, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "results.jsonl"
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def training_record(records: tuple[TrialRecord, ...]) -> TrialRecord:
    return next(record for record in records if record.kind == "training")


@pytest.mark.benchmark(group="append a training record")
def test_append_to_a_results_file(benchmark: BenchmarkFixture, tmp_path: Path, training_record: TrialRecord) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, environment=training_record.environment) as results:
        benchmark.pedantic(results.append, (training_record,), rounds=NUM_APPENDS)
    assert path.read_text(encoding="utf-8") == f"{training_record.to_json()}\n" * NUM_APPENDS


@pytest.mark.benchmark(group="append a training record")
def test_append_bare(benchmark: BenchmarkFixture, tmp_path: Path, training_record: TrialRecord) -> None:
    path = tmp_path / "results.jsonl"
    line = training_record.to_json().encode() + b"\n"
    with path.open("ab", buffering=0) as file:

        def write_and_wait() -> None:
            file.write(line)
            os.fsync(file.fileno())

        benchmark.pedantic(write_and_wait, rounds=NUM_APPENDS)
    assert path.read_bytes() == line * NUM_APPENDS


@pytest.mark.benchmark(group="encode a training record")
def test_encode_a_record(benchmark: BenchmarkFixture, training_record: TrialRecord) -> None:
    assert json.loads(benchmark(training_record.to_json))["trial_id"] == training_record.trial_id


@pytest.mark.benchmark(group="encode a training record")
def test_encode_its_values(benchmark: BenchmarkFixture, training_record: TrialRecord) -> None:
    line = training_record.to_json()
    values = json.loads(line)
    assert benchmark(json.dumps, values, allow_nan=False, separators=(",", ":")) == line


@pytest.mark.benchmark(group="load 1,000 records")
def test_load_a_results_file(benchmark: BenchmarkFixture, results_path: Path, records: tuple[TrialRecord, ...]) -> None:
    loaded = benchmark(load_results, results_path)
    assert loaded.records == records
    assert loaded.notes == ()


@pytest.mark.benchmark(group="load 1,000 records")
def test_parse_its_lines(benchmark: BenchmarkFixture, results_path: Path, records: tuple[TrialRecord, ...]) -> None:
    def parse() -> list[dict[str, Any]]:
        return [json.loads(line) for line in results_path.read_bytes().splitlines()]

    assert [values["trial_id"] for values in benchmark(parse)] == [record.trial_id for record in records]
