"""Fitting the wall-clock model to a thousand records; the target is a second.

Run with: pytest benchmarks/suites/bench_fit.py --benchmark-enable --benchmark-only
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.analysis.models.fit import fit_families
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_all

RESULTS = Path(__file__).parents[2] / "results" / "cpu-amd-epyc" / "wallclock.jsonl"
NUM_RECORDS = 1000


def test_fit_a_thousand_records(benchmark: BenchmarkFixture) -> None:
    """Fit measured records, repeated as further processes until there are enough."""
    measured = [record for record in load_all([RESULTS]).records if record.kind == "compute"]
    copies = enumerate(itertools.islice(itertools.cycle(measured), NUM_RECORDS))
    records = [replace(record, replicate=number) for number, record in copies]

    def anew() -> tuple[tuple[list[TrialRecord]], dict[str, Any]]:
        """Return copies, because results are cached with each record."""
        return (list(map(replace, records)),), {}

    families, _ = benchmark.pedantic(fit_families, setup=anew, rounds=5)
    assert len(families) == len({record.spec.family for record in measured})
