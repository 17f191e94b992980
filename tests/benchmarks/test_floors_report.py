from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import floors_report
import floors_rows
import pytest
import torch
from cuda_autocast import CudaAutocast
from floors_rows import Ceilings, ceilings_of, rows_of
from floors_traffic import TrafficCounter, step_traffic
from record_factory import training_spec

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.compute import ComputeSummary
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import load_all

pytestmark = pytest.mark.torch

RECORDS = Path(__file__).parents[2] / "results/cpu-amd-epyc/wallclock.jsonl"


def spec_of(**changes: Any) -> TrialSpec:
    return replace(training_spec(), **changes)


@pytest.fixture(scope="module", name="summaries")
def _summaries() -> tuple[ComputeSummary, ...]:
    return Findings(load_all([RECORDS]).records).compute


def counted(statement: Any) -> int:
    with TrafficCounter() as counter:
        statement()
    return int(counter.num_bytes)


def test_an_operator_reads_what_it_is_given_and_writes_what_it_returns() -> None:
    x, y = torch.ones(1000), torch.ones(1000)
    assert counted(lambda: x + y) == 3 * 4000
    assert counted(lambda: x + x) == 2 * 4000, "what is given twice is read once"
    assert counted(lambda: x.add_(y)) == 3 * 4000
    assert counted(lambda: x.to(torch.bfloat16)) == 4000 + 2000
    assert counted(lambda: x[None].expand(50, 1000) * 2) == 4000 + 50 * 4000, "what is repeated lies there once"


def test_views_and_memory_that_nobody_writes_move_nothing() -> None:
    x = torch.ones(10, 100)
    assert counted(lambda: (x.view(1000), x.t(), x[3], x.detach(), x.expand(5, 10, 100), torch.empty(10_000))) == 0


def test_a_matrix_product_moves_three_matrices() -> None:
    left, right = torch.ones(20, 30), torch.ones(30, 40)
    assert counted(lambda: left @ right) == 4 * (20 * 30 + 30 * 40 + 20 * 40)


def test_the_traffic_of_a_step_follows_its_levers() -> None:
    def traffic(width: int = 512, **changes: Any) -> int:
        return step_traffic(spec_of(**changes), height=64, width=width)

    plain = traffic()
    assert traffic(1024) == pytest.approx(2 * plain, rel=0.1)
    assert traffic(precision="bf16", norm_precision="input") < 0.7 * plain
    assert traffic(precision="bf16", norm_precision="fp32") > traffic(precision="bf16", norm_precision="input")
    assert traffic(precision="fp16") == traffic(precision="bf16")
    assert traffic(checkpointing="stages") > 1.1 * plain, "what is recomputed is moved again"
    whole = traffic(batch_size=4, micro_batch_size=4)
    assert traffic(batch_size=4, micro_batch_size=2) == pytest.approx(whole, rel=0.03), "gradients are added up twice"
    for changes in ({"compile": "default"}, {"padding": "exact"}):
        with pytest.raises(ValueError, match="not that of its operators"):
            traffic(**changes)


@pytest.mark.parametrize("norm_precision", ["fp32", "input"])
def test_the_bytes_of_a_step_are_the_same_under_the_rules_of_cuda(norm_precision: str) -> None:
    spec = spec_of(device="cuda", precision="bf16", norm_precision=norm_precision)
    on_cpu = step_traffic(spec, height=64, width=96)
    with CudaAutocast():
        assert step_traffic(spec, height=64, width=96) == on_cpu


def test_nothing_is_computed_for_a_step_of_the_worst_case() -> None:
    spec = spec_of(
        device="cuda", model="veernet", batch_size=16, micro_batch_size=16, precision="bf16", norm_precision="input"
    )
    assert step_traffic(spec, height=640, width=12_800) > 100e9


def test_floors_are_operations_and_bytes_over_the_ceilings(
    summaries: tuple[ComputeSummary, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors_rows, "step_traffic", lambda spec, *, height, width: spec.batch_size * height * width)
    ceilings = Ceilings(flop_per_s={"fp32": 1e11, "bf16": 2e11}, bytes_per_s=1e10)
    rows = rows_of(summaries, ceilings)
    assert len(rows) == len([one for one in summaries if one.canvases])
    twice = rows_of(summaries, Ceilings(flop_per_s={"fp32": 2e11, "bf16": 4e11}, bytes_per_s=2e10))
    for row, faster in zip(rows, twice, strict=True):
        assert row.traffic_s is not None
        assert faster.traffic_s == pytest.approx(row.traffic_s / 2)
        assert faster.arithmetic_s == pytest.approx(row.arithmetic_s / 2)
        assert row.over_floor == pytest.approx(row.step_time.value / max(row.arithmetic_s, row.traffic_s))
    speeds = [row.valid_pixels / row.step_time.value for row in rows]
    assert speeds == sorted(speeds, reverse=True)
    assert all(row.traffic_s == row.spec.batch_size * row.height * row.width / 1e10 for row in rows)
    assert rows_of(summaries, Ceilings(flop_per_s={"fp16": 1e11}, bytes_per_s=1e10)) == []


def test_the_shipped_ceilings_are_above_all_steps(summaries: tuple[ComputeSummary, ...]) -> None:
    ceilings = ceilings_of(json.loads((RECORDS.parent / "floors.json").read_text()))
    assert all(row.over_floor > 1 for row in rows_of(summaries, ceilings))


def test_the_report_is_drawn_from_ceilings_that_were_measured_before(tmp_path: Path) -> None:
    folder = tmp_path / "cpu-x"
    folder.mkdir()
    shutil.copy(RECORDS.parent / "floors.json", folder)
    arguments = [str(RECORDS), "--results", str(folder / "floors.json"), "--out", str(tmp_path), "--report-only"]
    assert floors_report.main(arguments) == 0
    (report,) = tmp_path.glob("floors_cpu-x_*.md")
    text = report.read_text()
    assert "Fastest by valid pixels is" in text
    assert "python benchmarks/experiments/floors_report.py" in text
    assert report.with_suffix(".png").exists()


def test_ceilings_of_another_machine_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(floors_report, "describe_environment", lambda _: {"device_name": "another"})
    with pytest.raises(SystemExit) as stopped:
        floors_report.main([str(RECORDS), "--results", str(tmp_path / "floors.json"), "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "is not this machine, another" in capsys.readouterr().err


def test_ceilings_are_rates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors_report, "NUM_REPEATS", 1)
    monkeypatch.setattr(floors_report, "MIN_TIMING_S", 0.01)
    monkeypatch.setitem(floors_report.LOADS, "cpu", floors_report.Load(side=128, num_bytes=2**20))
    name = floors_report.describe_environment("cpu")["device_name"]
    document = floors_report.measured_document("cpu", ["bf16", "fp32"], expected=name)
    assert set(document["flop_per_s"]) == {"fp32", "bf16"}
    assert all(1e6 < rate < 1e15 for rates in document["flop_per_s"].values() for rate in rates)
    assert 1e6 < document["bytes_per_s"][0] < 1e13
