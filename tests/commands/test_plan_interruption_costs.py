"""What a plan takes for the cost of snapshots and restarts, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from record_factory import cpu_sweep, snapshot_record

from vnbench.cli.app import run
from vnbench.records.record import TrialRecord


def write(path: Path, *records: TrialRecord) -> str:
    path.write_text("".join(f"{one.to_json()}\n" for one in records), encoding="utf-8")
    return str(path)


def planned(file: str, *more: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["plan", file, "--examples", "200", "--epochs", "5", *more, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def told(file: str, *more: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(["plan", file, "--examples", "200", "--epochs", "5", *more]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture(name="measured")
def _measured(tmp_path: Path) -> str:
    return write(tmp_path / "measured.jsonl", *cpu_sweep(), snapshot_record(cost_s=0.05, restart_s=4.0))


def test_costs_that_were_measured_are_planned_with(measured: str, capsys: pytest.CaptureFixture[str]) -> None:
    costs = planned(measured, "--interruptions", "2", capsys=capsys)["interruption_costs"]
    assert costs["snapshot_s"] == pytest.approx(0.05)
    assert costs["restart_s"] == pytest.approx(4.0)
    text = told(measured, "--interruptions", "2", capsys=capsys)
    assert "With 2 interruptions, 4 s to restart and 50 ms per snapshot" in text
    assert "Snapshots were measured: mode sync, in the temporary folder (ext4); so was going on" in text
    assert "is assumed, where it was not given" not in text


def test_what_is_given_wins(measured: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--interruptions", "2", "--restart-cost", "10m")
    costs = planned(measured, *asked, capsys=capsys)["interruption_costs"]
    assert (costs["snapshot_s"], costs["restart_s"]) == (pytest.approx(0.05), 600)
    assert "going on" not in costs["source"]
    both = planned(measured, *asked, "--snapshot-cost", "1s", capsys=capsys)["interruption_costs"]
    assert both == {"snapshot_s": 1, "restart_s": 600, "source": None}


def test_without_records_of_them_costs_are_assumed_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "plain.jsonl", *cpu_sweep())
    answer = planned(file, "--mtbi", "8h", capsys=capsys)
    assert answer["interruption_costs"] == {"snapshot_s": 2, "restart_s": 300, "source": None}
    assert any("--kind snapshot" in line for line in answer["warnings"])
    assert not any("--kind snapshot" in line for line in planned(file, capsys=capsys)["warnings"])
