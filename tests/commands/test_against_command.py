"""The command from what was asked to its outcome, with sides that measure nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
from network_repository import NETWORK, git, make_repository

from vnbench.cli.app import run
from vnbench.commands.gate.against import command
from vnbench.commands.gate.worker import Home
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.store import load_results
from vnbench.records.task import TrialTask

ENVIRONMENT = factory.CPU_ENVIRONMENT | {"device_type": "cpu", "num_cpus": 2}
ASKED = ["--model", "nets/net.py:build", "--widths", "64:96", "--heights", "32:64", "--examples", "4", "--subset", "2"]
ASKED += [
    "--kind",
    "compute",
    "--batch-size",
    "1,2",
    "--sampler",
    "random",
    "--precision",
    "fp32",
    "--num-workers",
    "0",
]


class FakeWorker:
    """A side that measures in no time; the baseline is the one whose folder is not the working folder."""

    torch_versions = ("2.13.0", "2.13.0")
    slower = 1.0
    on_trial: Callable[[TrialTask], TrialRecord | None] = staticmethod(lambda task: None)

    def __init__(self, home: Home) -> None:
        self.side = int(home.folder == Path.cwd())

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def environment(self, device: str) -> dict[str, Any]:
        return ENVIRONMENT | {"torch_version": self.torch_versions[self.side]}

    def run(self, task: TrialTask, *, timeout_s: float) -> TrialRecord:
        if (record := type(self).on_trial(task)) is not None:
            return record
        seconds = (self.slower if self.side else 1.0) * (1 + 1e-4 * ((task.replicate * 7 + self.side) % 5))
        return factory.record_of(
            task.spec, steps=factory.steps_of([seconds] * 2), replicate=task.replicate, environment=ENVIRONMENT
        )


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    folder = make_repository(tmp_path / "repository")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(command, "Worker", FakeWorker)
    return folder


def test_an_edited_network_is_compared_and_its_records_are_kept_under_both_names(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gate", "--against", "first", *ASKED]) == 0
    captured = capsys.readouterr()
    assert "pass: " in captured.out
    assert "its text changed" in captured.out
    assert captured.err.startswith("baseline: first, ")
    assert "starting vnbench on both sides" in captured.err
    short = [git(repository, "rev-parse", "--short=12", name) for name in ("first", "HEAD")]
    folder = repository / "results" / "gate" / "..".join(short)
    specs = [load_results(folder / f"{side}.jsonl").records[0].spec for side in ("baseline", "candidate")]
    assert [spec.model for spec in specs] == ["nets/net.py:build"] * 2
    assert specs[0].model_id != specs[1].model_id


def test_a_side_tells_of_the_trials_of_its_own_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["gate", "--against", "first", *ASKED, "--metrics", "status"]
    assert run([*asked, "--batch-size", "1,2,4"]) == 0
    assert ", 3 trials)" in capsys.readouterr().out
    assert run([*asked, "--batch-size", "1"]) == 0
    told = capsys.readouterr().out
    assert ", 1 trial)" in told
    assert "trials)" not in told


def test_a_slower_network_is_a_regression_told_in_every_form(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWorker, "slower", 1.2)
    files = ["--junit", "j.xml", "--markdown", "m.md", "--code-quality", "q.json", "--out", "kept"]
    assert run(["gate", "--against", "first", *ASKED, *files, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["outcome"], report["exit_code"]) == ("regression", 1)
    assert "worse" in {row["verdict"] for row in report["rows"] if row["metric"] == "time"}
    assert "<failure" in Path("j.xml").read_text(encoding="utf-8")
    assert Path("m.md").read_text(encoding="utf-8").startswith("### vnbench gate: regression")
    assert json.loads(Path("q.json").read_text(encoding="utf-8"))
    assert load_results(Path("kept/candidate.jsonl")).records


def test_the_model_of_a_file_named_from_the_root_or_from_its_folder_is_the_same(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [str(repository / "nets" / "net.py:build") if one == "nets/net.py:build" else one for one in ASKED]
    assert run(["gate", "--against", "first", *asked, "--out", "kept"]) == 0
    assert load_results(Path("kept/baseline.jsonl")).records[0].spec.model == "nets/net.py:build"


def test_sides_with_another_torch_are_told_apart_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeWorker, "torch_versions", ("2.12.0", "2.13.0"))
    assert run(["gate", "--against", "first", *ASKED]) == 3
    assert "not comparable (torch_version: baseline 2.12.0, candidate 2.13.0)" in capsys.readouterr().out
    assert not list(Path("results").rglob("*.jsonl"))


def test_a_network_that_is_edited_while_it_is_measured_is_no_regression(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(task: TrialTask) -> TrialRecord:
        Path("nets/net.py").write_text(NETWORK + "\n", encoding="utf-8")
        cause = Cause(kind="exception", message="it changed", detail=None)
        return factory.record_of(task.spec, status="crashed", cause=cause, environment=ENVIRONMENT)

    monkeypatch.setattr(FakeWorker, "on_trial", staticmethod(edit))
    assert run(["gate", "--against", "first", *ASKED]) == 2
    assert "--model nets/net.py:build: the file changed while it was measured" in capsys.readouterr().err


def test_a_baseline_that_takes_no_lever_that_is_varied_is_refused(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = NETWORK.replace("num_classes):", "num_classes, checkpointing):", 1)
    (repository / "nets" / "net.py").write_text(text)
    assert run(["gate", "--against", "first", *ASKED, "--checkpointing", "none,stages"]) == 2
    told = capsys.readouterr().err
    assert "its build takes no checkpointing" in told
    assert told.rstrip().endswith("write --checkpointing none")


def test_a_file_outside_of_the_repository_has_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    asked = ["../net.py:build" if one == "nets/net.py:build" else one for one in ASKED]
    assert run(["gate", "--against", "first", *asked]) == 2
    assert "the file lies outside of" in capsys.readouterr().err


def test_a_revision_without_the_network_is_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "new.py").write_text(NETWORK)
    asked = ["new.py:build" if one == "nets/net.py:build" else one for one in ASKED]
    assert run(["gate", "--against", "first", *asked]) == 2
    assert "its network cannot be read" in capsys.readouterr().err


def test_what_is_asked_comes_from_a_file_too(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f'{name.removeprefix("--")} = "{value}"' for name, value in zip(ASKED[::2], ASKED[1::2], strict=True)]
    lines += ["replicates = 4", 'out = "elsewhere.jsonl"']
    Path("gate.toml").write_text("\n".join(lines), encoding="utf-8")
    assert run(["gate", "--against", "first", "--config", "gate.toml"]) == 0
    assert not Path("elsewhere.jsonl").exists()


def test_without_sizes_a_definition_that_ships_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[TrialTask] = []
    monkeypatch.setattr(FakeWorker, "on_trial", staticmethod(lambda task: tried.append(task)))
    asked = ["--model", "nets/net.py:build", "--metrics", "status", "--kind", "compute"]
    assert run(["gate", "--against", "first", *asked]) == 0
    assert {task.spec.batch_size for task in tried} == {1, 2}


def test_a_dry_run_tells_what_would_be_measured_on_both_sides_and_keeps_nothing(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[TrialTask] = []
    monkeypatch.setattr(FakeWorker, "on_trial", staticmethod(lambda task: tried.append(task)))
    before = git(repository, "status", "--porcelain")
    assert run(["gate", "--against", "first", "--model", "nets/net.py:build", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("baseline: first, ")
    assert "candidate: the working folder" in told
    assert "measured on each side: the definition that ships for cpu" in told
    assert "    memory: micro-batch 2, fp32" in told
    assert "block 1: 14 trials, 7 configurations a side, about " in told
    assert "each further block: 10 trials, 5 configurations a side, about " in told
    assert "a rough guess" in told
    assert not tried
    assert not list((repository.parent / "cache").rglob("*.py"))
    assert git(repository, "status", "--porcelain") == before


def test_a_dry_run_knows_from_earlier_gates_how_long_a_block_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", "--against", "first", *ASKED]) == 0
    capsys.readouterr()
    assert run(["gate", "--against", "first", *ASKED, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["is_guess"]
    elapsed_s = [record.elapsed_s for path in Path("results").rglob("*.jsonl") for record in load_results(path).records]
    assert told["further_block_s"] == pytest.approx(4 * sum(elapsed_s) / len(elapsed_s))
    assert told["definition"] == "what the options say"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_definition_ships_for_every_device_with_four_to_six_timed_rows_and_one_of_memory(device: str) -> None:
    from vnbench.commands.corpus import plan_corpus
    from vnbench.commands.sweep.sweep import designer
    from vnbench.request.config import complete
    from vnbench.request.reading import read_request

    environment = {"device_type": device, "num_cpus": 4, "native_precisions": None}
    request = read_request({}, config_path=command.DEFINITIONS / f"{device}.toml")
    config = complete(request, environment=environment)
    corpus = plan_corpus(config)
    specs = {trial.spec for trial in designer(corpus, environment)(config).trials}
    kinds = [spec.kind for spec in specs]
    assert {"memory", "compute", "training"} == set(kinds)
    assert 4 <= len(kinds) - kinds.count("memory") <= 6
