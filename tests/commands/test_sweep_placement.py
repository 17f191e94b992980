"""Where a sweep's records go when the machine or the images change, as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory

from vnbench.cli.app import run
from vnbench.records.store import ResultsFile, load_results
from vnbench.request.own_model import read_own_model
from vnbench.sweep.runner import probe_environment

pytestmark = pytest.mark.processes

SMALL = ["sweep", "--widths", "64:160", "--heights", "32:64", "--device", "cpu", "--examples", "10", "--subset", "2"]
SMALL += ["--no-plots", "--max-attempts", "1", "--time-budget", "10h"]
ONE_TRIAL = ["--precision", "fp32", "--checkpointing", "none", "--batch-size", "1", "--kind", "memory"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    report: dict[str, Any] = json.loads(out)
    return report, err


@pytest.mark.slow
def test_other_threads_have_a_file_of_their_own_which_the_same_command_goes_on_with(here: Path) -> None:
    counts = {}
    for threads in ("1", "2", "2"):
        # A process of its own each time: children take over what torch read when the first of them began.
        done = subprocess.run(
            [sys.executable, "-m", "vnbench", *SMALL, *ONE_TRIAL, "--out", "r.jsonl", "--json"],
            env=os.environ | {"OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        out = json.loads(done.stdout)["out"]
        counts[out] = len(load_results(here / out).records)
        if threads == "2":
            assert "r.jsonl holds other records (num_threads 1 there, 2 here); these go to r.2.jsonl" in done.stderr
        assert f"records: {out}" in done.stderr
    assert list(counts) == ["r.jsonl", "r.2.jsonl"]
    assert set(counts.values()) == {1}, "nothing is measured twice"


@pytest.mark.parametrize("search", [[], ["--find-max-batch"]], ids=["a sweep", "a search"])
def test_a_dry_run_names_the_file_that_would_be_written(
    here: Path, capsys: pytest.CaptureFixture[str], search: list[str]
) -> None:
    environment = {"device_name": "another device", "torch_version": "1.0", "revision": "x"}
    with ResultsFile(here / "r.jsonl", environment=environment) as results:
        results.append(factory.record_of(factory.training_spec(), environment=environment))
    report, err = told([*SMALL, *search, "--dry-run", "--out", "r.jsonl"], capsys)
    assert report["out"] == "r.2.jsonl"
    assert "device_name another device there" in err
    assert "records: r.2.jsonl" in err


def test_without_out_each_corpus_has_a_file_of_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outs = [told([*SMALL, *more, "--dry-run"], capsys)[0]["out"] for more in ([], ["--seed", "1"], [])]
    assert outs[0] == outs[2] != outs[1]
    assert all(Path(out).name.startswith("sweep-") for out in outs)


def test_an_own_network_has_a_file_of_its_own_unless_its_records_lie_in_that_of_the_presets(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "def build(num_classes):\n    import torch\n    return torch.nn.Conv2d(1, num_classes, 1)\n"
    (here / "net.py").write_text(text)
    preset, own = (told([*SMALL, *more, "--dry-run"], capsys)[0]["out"] for more in ([], ["--model", "net.py:build"]))
    assert Path(preset).parent == Path(own).parent
    assert Path(own).name == Path(preset).name.replace("sweep-", "sweep-net-build-")
    environment = probe_environment("cpu")
    model_id = read_own_model("net.py:build", where="--model").model_id
    corpus_id = Path(preset).stem.removeprefix("sweep-")
    spec = factory.training_spec(model="net.py:build", model_id=model_id, corpus_id=corpus_id)
    with ResultsFile(here / preset, environment=environment) as results:
        results.append(factory.record_of(spec, environment=environment))
    assert told([*SMALL, "--model", "net.py:build", "--dry-run"], capsys)[0]["out"] == preset
    (here / "net.py").write_text(f"{text}# another\n")
    assert told([*SMALL, "--model", "net.py:build", "--dry-run"], capsys)[0]["out"] == own
