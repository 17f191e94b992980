from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
from suggestions import commands_in, pasted, pasted_sweep

from vnbench.cli.app import run
from vnbench.commands.report import plot as plot_command
from vnbench.output.plots import figures
from vnbench.output.words.profiles import Profile
from vnbench.records.record import TrialRecord
from vnbench.units import format_duration


def write(path: Path, records: Sequence[TrialRecord]) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


def profile(path: Path, **changes: Any) -> str:
    """Write a profile of a step whose memory is mostly the first stage's."""
    values: dict[str, Any] = {
        "spec": factory.memory_spec(factory.training_spec(device="cuda", model="veernet")),
        "status": "ok",
        "reason": None,
        "stages": ("stem", "decoder 1"),
        "tracked_peak_bytes": 7 * 2**30,
        "measured_peak_bytes": None,
        "instrument": "cuda-caching-allocator",
        "peak_place": "backward pass of decoder 1",
        "at_peak": {("stem", "activations"): 4 * 2**30, ("decoder 1", "backward"): 2 * 2**30, ("", "gradients"): 2**30},
        "timeline": (("forward", {("stem", "activations"): 2**30}),),
        "device_name": "NVIDIA H200",
    }
    one = Profile(**(values | changes))
    path.write_text(json.dumps(one.to_json()), encoding="utf-8")
    assert Profile.read(path) == one
    return str(path)


@pytest.fixture(name="results")
def _results(tmp_path: Path) -> str:
    return write(tmp_path / "campaign.jsonl", factory.gpu_campaign())


def test_the_figures_of_a_plan_and_of_a_profile_are_drawn_too(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = profile(tmp_path / "profile.json")
    arguments = ["--examples", "600", "--epochs", "10", "--profile", given, "--json"]
    assert run(["plot", results, "--out", str(tmp_path / "out"), *arguments]) == 0
    drawn = json.loads(capsys.readouterr().out)
    names = {Path(path).stem for path in drawn["plots"]}
    assert {"wall_clock", "pareto", "levers", "interruptions", "stage_memory", "fit"} <= names
    assert "snapshot_interval" not in names, "nobody asked for interruptions"
    assert {Path(path).suffix for path in drawn["plots"]} == {".png", ".svg"}
    assert all(Path(path).is_file() for path in drawn["plots"])
    svg = (tmp_path / "out" / "stage_memory.svg").read_text()
    assert "decoder 1" in svg
    assert "7.00 GiB" in svg


def test_the_interval_between_snapshots_is_drawn_with_what_rules_say(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [results, "--examples", "600", "--epochs", "10", "--interruptions", "3", "--json"]
    assert run(["report", "--out", str(tmp_path / "out"), *arguments]) == 0
    capsys.readouterr()
    assert run(["plan", *arguments]) == 0
    interval_s = json.loads(capsys.readouterr().out)["recommended"]["snapshot_interval_s"]
    svg = (tmp_path / "out" / "snapshot_interval.svg").read_text()
    for rule in ("Young", "Daly", f"planned, {format_duration(interval_s)}"):
        assert rule in svg


def test_what_has_no_data_is_left_out_with_the_command_that_measures_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "f.jsonl", [factory.record_of(factory.training_spec(), status="oom")])
    assert run(["plot", path, "--out", str(tmp_path / "out"), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["left_out"]
    # A figure of forecasts is not missed where nobody forecast, nor one of interruptions where nobody expects any.
    assert [line.partition(":")[0] for line in lines] == [
        plot.name.replace("_", " ")
        for plot in figures.PLOTS
        if plot.name not in ("forecast", "audit", "snapshot_interval")
    ]
    commands = commands_in(lines)
    assert sum("no plan: " in line for line in lines) == 4
    of_change, *of_plan, of_profile = commands[:6]
    assert pasted_sweep(of_change).values["checkpointing"] == ("none", "stages")
    assert all(pasted_sweep(command).values["kind"] == ("memory", "compute") for command in of_plan)
    assert of_profile.startswith("vnbench profile ")
    assert pasted(of_profile)["widths"] == "3200:12800"


def test_a_disk_that_fills_leaves_what_was_there(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    last = figures.PLOTS[-1]
    monkeypatch.setattr(figures, "PLOTS", (figures.PLOTS[0], replace(last, draw=full)))
    old = tmp_path / "old"
    old.mkdir()
    (old / "pareto.png").write_text("an older one")
    for command in ("plot", "report"):
        assert run([command, results, "--out", str(old), "--examples", "600"]) == 2
        assert "No space left" in capsys.readouterr().err
        assert [path.name for path in old.iterdir()] == ["pareto.png"]
        assert (old / "pareto.png").read_text() == "an older one"
        assert run([command, results, "--out", str(tmp_path / "new"), "--examples", "600"]) == 2
        assert not (tmp_path / "new").exists()
        capsys.readouterr()


def test_what_is_no_profile_or_of_another_device_is_refused(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    for text in ("{", "[]", '{"spec": {}}', '{"spec": 1}'):
        bad.write_text(text)
        assert run(["plot", results, "--out", str(tmp_path / "o"), "--profile", str(bad)]) == 2
        assert "this is no profile" in capsys.readouterr().err
    other = profile(tmp_path / "other.json", device_name="NVIDIA A100")
    for path, reason in ((other, "NVIDIA A100"), (str(tmp_path / "missing.json"), "cannot be read")):
        assert run(["plot", results, "--out", str(tmp_path / "o"), "--profile", path]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_what_a_killed_command_left_is_cleared_and_what_another_one_writes_is_not(tmp_path: Path) -> None:
    old, young = tmp_path / ".vnbench-old", tmp_path / ".vnbench-young"
    for folder in (old, young):
        folder.mkdir()
    long_ago = old.stat().st_mtime - 2 * plot_command.STALE_S
    os.utime(old, (long_ago, long_ago))
    with plot_command.new_files(tmp_path) as folder:
        (folder / "a.png").write_text("a picture")
    assert {path.name for path in tmp_path.iterdir()} == {".vnbench-young", "a.png"}
