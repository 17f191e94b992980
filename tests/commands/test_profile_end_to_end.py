"""The memory profile of a step as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vnbench.cli.app import run

pytestmark = pytest.mark.processes

SMALL = ["profile", "--device", "cpu", "--widths", "64:640", "--heights", "32:128", "--precision", "bf16"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_configuration_gets_a_table_and_its_tensors_sum_up(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--checkpointing", "none,stages"]) == 0
    out, err = capsys.readouterr()
    # bf16 with the norm in fp32 and in bf16, each with and without checkpointing.
    assert out.count("1 x 128 x 640 px, bf16") == 4
    assert out.count("decoder 1") >= 4
    assert "unexplained" in out
    assert "CPU figures" in out
    assert "[4/4]" in err
    assert list(here.iterdir()) == []


def test_json_holds_every_cell_and_the_residual(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--norm-precision", "input", "--checkpointing", "none", "--micro-batch-size", "1,2", "--json"]
    assert run([*arguments, "--out", "p"]) == 0
    report = json.loads(capsys.readouterr().out)
    one, two = sorted(report["profiles"], key=lambda profile: profile["tracked_peak_bytes"])
    assert (one["spec"]["micro_batch_size"], two["spec"]["micro_batch_size"]) == (1, 2)
    assert two["tracked_peak_bytes"] == pytest.approx(2 * one["tracked_peak_bytes"], rel=0.3)
    for profile in (one, two):
        assert sum(cell["bytes"] for cell in profile["at_peak"]) == profile["tracked_peak_bytes"]
        assert profile["instrument"] == "process"
        assert profile["residual_ratio"] == pytest.approx(
            1 - profile["tracked_peak_bytes"] / profile["measured_peak_bytes"]
        )
        assert len(profile["timeline"]) > 30
    names = {Path(path).name for path in report["files"]}
    assert names == {"profile.png", "profile.svg", "profile.json"}
    assert all((here / path).stat().st_size > 1000 for path in report["files"])


def test_a_step_that_does_not_fit_is_told_and_the_exit_code_says_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, "--norm-precision", "fp32", "--checkpointing", "none"]
    assert run([*arguments, "--micro-batch-size", "16", "--memory-limit", "40MiB"]) == 3
    assert "oom: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["profile"], "--widths"),
        ([*SMALL, "--precision", "int8"], "--precision int8"),
        ([*SMALL, "--micro-batch-size", "0"], "--micro-batch-size 0"),
        ([*SMALL, "--memory-limit", "much"], "--memory-limit much"),
    ],
)
def test_bad_input_gets_one_line(
    here: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert len(err.splitlines()) == 1
