"""The search for the largest micro-batch as a user runs it, under a memory limit that trials do run into."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from pathlib import Path

import pytest
from record_factory import memory_spec, training_spec

from vnbench.analysis.trials.memory_law import PeakPoint, fit_memory_law
from vnbench.cli.app import run
from vnbench.commands.sweep import search as search_command
from vnbench.records.task import TrialTask
from vnbench.sweep.budget import Budget
from vnbench.sweep.estimate import TrialTimes
from vnbench.sweep.runner import run_trial
from vnbench.sweep.search import search_max_batches

pytestmark = pytest.mark.processes

SMALL = ["sweep", "--find-max-batch", "--device", "cpu", "--widths", "640:1280", "--heights", "96:128"]
SMALL += ["--time-budget", "10h"]  # no clock decides how far a search gets
ONE = ["--precision", "fp32", "--norm-precision", "fp32", "--checkpointing", "none", "--out", "r.jsonl"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_names_the_configurations_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["num_trials"] == 0
    # fp32, bf16 with either norm, each with and without checkpointing.
    assert "the largest micro-batch that fits, in 6 configurations" in err
    assert run([*SMALL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall("^    from memory: ", out, flags=re.M)) == 6, "without --json the list is the output"
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_the_largest_micro_batch_under_a_limit_is_exact_and_seen_twice(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL, *ONE, "--memory-limit", "400MiB"]
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    (found,) = json.loads(out)["max_batches"]
    assert found["largest_micro_batch"] >= 1
    assert found["is_exact"]
    assert found["is_confirmed"]
    assert found["blocker"]["status"] == "oom"
    assert found["blocker"]["micro_batch_size"] == found["largest_micro_batch"] + 1
    assert found["capacity_bytes"] == 400 * 2**20
    assert " more probe" in err
    assert err.splitlines()[-1].startswith("records: ")
    lines = (here / "r.jsonl").read_text().splitlines()
    assert len(lines) == found["num_probes"]

    # Nothing is left to do, and the table says what there is.
    assert run(arguments) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(f"Answer: a micro-batch of {found['largest_micro_batch']} fits.")
    assert (here / "r.jsonl").read_text().splitlines() == lines
    assert f"{found['blocker']['micro_batch_size']}: oom" in out
    assert "memory limit 400 MiB" in out


@pytest.mark.slow
def test_the_law_of_some_canvases_gives_the_peaks_of_others() -> None:
    # Fitted to three, tried on others between, below and above them, of other shapes and micro-batches.
    def point(height: int, width: int, micro_batch_size: int) -> PeakPoint:
        training = training_spec(batch_size=micro_batch_size, precision="bf16", checkpointing="stages")
        task = TrialTask(
            spec=memory_spec(training, height=height, width=width), replicate=0, attempt=0, corpus_directory=None
        )
        memory = run_trial(task, environment={"device_uuid": None}, timeout_s=600).memory
        assert memory is not None
        assert memory.peak_allocated_bytes is not None
        return PeakPoint(padded_pixels=micro_batch_size * height * width, peak_bytes=memory.peak_allocated_bytes)

    law = fit_memory_law([point(96, 640, 1), point(128, 1280, 1), point(128, 1280, 3)])
    assert law is not None
    for other in (point(64, 320, 1), point(96, 1600, 2), point(256, 1280, 2)):
        assert law.peak_bytes(other.padded_pixels) == pytest.approx(other.peak_bytes, rel=0.016)


def leave_time_for_one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the budget of a search, whatever it is, end after its first probe."""
    times_s = itertools.chain([0.0], itertools.repeat(math.inf))
    search = functools.partial(search_max_batches, clock=lambda: next(times_s))
    monkeypatch.setattr(search_command, "search_max_batches", search)


@pytest.mark.slow
def test_a_limit_that_nothing_fits_ends_with_3_and_a_record_of_the_failure(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = [*SMALL, "--widths", "640:2560", *ONE[:-1]]
    arguments = [*wide, "r.jsonl", "--memory-limit", "130MiB"]
    assert run([*arguments, "--json"]) == 3
    out, err = capsys.readouterr()
    (found,) = json.loads(out)["max_batches"]
    assert found["largest_micro_batch"] == 0
    assert found["blocker"]["micro_batch_size"] == 1
    assert found["blocker"]["status"] == "oom"
    # Smaller canvases tell what it would need; the same network without a limit is the judge.
    assert "no configuration fits; fp32" in err
    assert "needs the least memory: about " in err
    with monkeypatch.context() as patch:
        leave_time_for_one_probe(patch)
        assert run([*wide, "free.jsonl", "--memory-limit", "20GiB", "--json"]) == 0
    (free,) = json.loads(capsys.readouterr().out)["max_batches"]
    assert found["need_bytes"] == pytest.approx(free["peak_bytes"], rel=0.02)
    assert run(arguments) == 3
    assert "needs about" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_cut_short_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SMALL, *ONE, "--memory-limit", "300MiB"]  # oneDNN of torch 2.11 may fail with 200
    with monkeypatch.context() as patch:
        leave_time_for_one_probe(patch)
        assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "the same command again continues the search" in err
    assert json.loads(out)["num_not_started"] == 1
    assert len((here / "r.jsonl").read_text().splitlines()) == 1
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["max_batches"][0]["is_confirmed"]
    assert report["num_not_started"] == 0


@pytest.mark.slow
def test_a_probe_that_the_budget_ends_leaves_no_record(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it is taken to need is nothing, so that it starts, and what is left for it is too little.
    monkeypatch.setattr(TrialTimes, "of", lambda self, spec: 0.0)
    monkeypatch.setattr(Budget, "longest_s", lambda self: 0.01)
    assert run([*SMALL, *ONE, "--memory-limit", "200MiB", "--json"]) == 3
    out, err = capsys.readouterr()
    assert "the next search runs it again" in err
    assert json.loads(out)["num_not_started"] == 1
    assert not (here / "r.jsonl").exists()


@pytest.mark.parametrize("limit", ["0GiB", "lots", "-1GiB", "4"])
def test_what_is_no_limit_is_refused(here: Path, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--memory-limit", limit]) == 2
    _, err = capsys.readouterr()
    assert err.startswith(f"vnbench: --memory-limit {limit}: a size is a positive number")
    assert list(here.iterdir()) == []
