"""``vnbench audit`` and what becomes of its records, on loops in files; each runs in a process of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vnbench.cli.app import run
from vnbench.records.store import load_results

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]

LOOPS = """
import torch
import torch.nn.functional as F

def right(model, optimizer, batches):
    print("what a loop prints goes nowhere")
    for images, targets, valid in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()

def never_zeroed(model, optimizer, batches):
    for images, targets, valid in batches:
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()

def edited(model, optimizer, batches):
    right(model, optimizer, batches)

def without_a_step(model, optimizer, batches):
    for images, targets, valid in batches:
        F.cross_entropy(model(images), targets).backward()

def ending_early(model, optimizer, batches):
    right(model, optimizer, batches[:3])

def yielding_early(model, optimizer, batches):
    for one in batches[:2]:
        right(model, optimizer, [one])
        yield

def failing(model, optimizer, batches):
    raise KeyError("no such thing")

def of_two(model, batches):
    pass

async def waiting(model, optimizer, batches):
    pass
"""


@pytest.fixture(autouse=True)
def loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loops.py").write_text(LOOPS, encoding="utf-8")


def audited(capsys: pytest.CaptureFixture[str], name: str, *more: str, code: int) -> dict[str, Any]:
    assert run(["audit", f"loops.py:{name}", *more, "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert isinstance(told, dict)
    return told


def test_a_right_loop_passes_and_the_answer_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    told = audited(capsys, "right", code=0)
    assert (told["outcome"], told["findings"]) == ("pass", [])
    assert told["num_passes"] == told["num_steps"] == told["num_batches"] >= 8
    assert told["contributions"][3][:5] == [0, 0, 0, 1, 0]


def test_a_broken_loop_is_told_in_a_line_for_each_finding_and_ends_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "loops.py:never_zeroed"]) == 1
    answer, finding, *rest = capsys.readouterr().out.splitlines()
    assert answer == "loops.py:never_zeroed: 1 finding in 11 batches, 11 backward passes, 11 optimizer steps."
    assert finding.startswith("step 2, pass 1: never-zeroed: the step still holds the gradients of pass 1, ")
    assert finding.endswith("; call optimizer.zero_grad() after every step")
    assert "step    3    1    1    1    .    .    .    .    .    .    .    ." in rest


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("loops.py:without_a_step", "it never steps: it ran 37 backward passes over 37 batches, and no step"),
        (
            "loops.py:ending_early",
            "it ended early: it ran 3 backward passes over 37 batches, and an audit needs 8; let",
        ),
        ("loops.py:yielding_early", "it ended early: it ran 2 backward passes over 37 batches"),
        ("loops.py:failing", "loops.py:33, in failing: KeyError: 'no such thing'; repair the loop"),
        ("loops.py:of_two", "of_two cannot be called with a model, an optimizer and batches (too many positional"),
        ("loops.py:waiting", "it is a coroutine, which nothing runs; write def instead of async def"),
        ("loops.py:rigth", "and no rigth; write loops.py:right"),
        ("loops.py", "and does not say which of them trains; write loops.py:right"),
        ("nowhere.py:train", "nowhere.py cannot be read (No such file or directory); write FILE.py:FUNCTION"),
        ("train", "this names no function in a file; write FILE.py:FUNCTION"),
        ("loops.py:right --model veernet-huge", "--model veernet-huge: must be one of veernet, veernet-tiny"),
        ("loops.py:right --task ternary", "--task ternary: must be one of multiclass, binary"),
    ],
)
def test_what_cannot_be_audited_is_bad_input(name: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", *name.split()]) == 2
    out, line = capsys.readouterr()
    assert out == ""
    assert line.count("\n") == 1
    assert told in line


def test_a_network_of_ones_own_is_trained_on_the_classes_of_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "benchmarks" / "own_network.py", "net.py")
    told = audited(capsys, "right", "--model", "net.py:build", "--task", "binary", code=0)
    assert told["outcome"] == "pass"


def test_records_of_audits_go_to_gates_plots_and_reports_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    audited(capsys, "edited", "--out", "before.jsonl", code=0)
    broken = LOOPS.replace("    right(model, optimizer, batches)", "    never_zeroed(model, optimizer, batches)")
    Path("loops.py").write_text(broken, encoding="utf-8")
    audited(capsys, "edited", "--out", "after.jsonl", code=1)
    loaded = load_results(Path("after.jsonl"))
    assert (loaded.records, loaded.probes) == ((), ())
    (record,) = loaded.audits
    assert (record.kind, record.status, record.attempt) == ("audit", "wrong", 0)
    assert run(["gate", "before.jsonl", "before.jsonl", "--json"]) == 0
    capsys.readouterr()
    assert run(["gate", "before.jsonl", "after.jsonl", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["metric"], row["verdict"], row["reason"]) == ("status", "worse", "ok -> wrong (never-zeroed)")
    assert run(["gate", "after.jsonl", "before.jsonl", "--json"]) == 0
    assert run(["gate", "baseline.json", "after.jsonl", "--update"]) == 0
    assert run(["gate", "baseline.json", "after.jsonl"]) == 0
    capsys.readouterr()

    # The loop is audited anew: the last audit counts.
    Path("loops.py").write_text(LOOPS, encoding="utf-8")
    audited(capsys, "edited", "--out", "after.jsonl", code=0)
    assert [one.attempt for one in load_results(Path("after.jsonl")).audits] == [0, 1]
    assert run(["gate", "before.jsonl", "after.jsonl"]) == 0

    assert run(["plot", "before.jsonl", "--out", "figures"]) == 0
    assert sorted(path.name for path in Path("figures").iterdir()) == ["audit.png", "audit.svg"]
    assert run(["plan", "before.jsonl"]) == 2
    assert "before.jsonl: it holds audits alone" in capsys.readouterr().err


def test_audits_stand_beside_the_trials_of_a_report_and_change_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    audited(capsys, "never_zeroed", "--out", "audits.jsonl", code=1)
    trials = str(ROOT / "results" / "cpu-amd-epyc" / "readme.jsonl")
    for names, folder in ((["audits.jsonl"], "with"), ([], "without")):
        assert run(["report", trials, *names, "--out", folder]) == 0
    page, plain = (Path(folder, "report.md").read_text(encoding="utf-8") for folder in ("with", "without"))
    told = "- step 2, pass 1: never-zeroed: the step still holds the gradients of pass 1"
    assert told in page
    assert "![audit](audit.png)" in page
    assert told not in plain
    assert [line for line in plain.splitlines() if line not in page.splitlines()][1:] == []


def test_a_report_of_audits_alone_tells_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    audited(capsys, "right", "--out", "audits.jsonl", code=0)
    assert run(["report", "audits.jsonl", "--out", "report"]) == 0
    assert "- loops.py:right: nothing wrong was found in 11 batches" in Path("report/report.md").read_text("utf-8")
