from __future__ import annotations

import time
from pathlib import Path

import pytest
from record_factory import training_spec

from vnbench.errors import ChildError
from vnbench.records.drill_task import DrillLine, DrillTask
from vnbench.records.task import TrialTask
from vnbench.sweep import drilling
from vnbench.sweep.drilling import follow

pytestmark = pytest.mark.processes

TASK = DrillTask(
    trial=TrialTask(spec=training_spec(), replicate=0, attempt=0, corpus_directory=None),
    num_epochs=1,
    folder="snapshots",
    mode="sync",
    interval=None,
)


def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Let a script stand for the process that trains."""
    name = f"scripted_{abs(hash(text))}"
    head = "import os, subprocess, sys, time\nfrom vnbench.records.drill_task import *\ndef say(word, step):\n"
    body = "    print(DrillLine(word=word, step=step, at_s=time.monotonic()).to_text(), flush=True)\n"
    (tmp_path / f"{name}.py").write_text(head + body + text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(drilling, "MODULE", name)


def test_a_process_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripted(
        monkeypatch,
        tmp_path,
        "print('of a network')\nsay('begin', 0)\nsay('end', 7)\nsys.stderr.write('why')\nsys.exit(3)",
    )
    ended = follow(TASK, when=lambda _: None, timeout_s=60)
    assert [(line.word, line.step) for line in ended.lines] == [("begin", 0), ("end", 7)]
    assert (ended.exit_code, ended.error) == (3, "why")
    assert ended.started_s < ended.lines[0].at_s <= ended.lines[1].at_s < ended.ended_s


def test_a_process_is_killed_with_its_children_and_what_it_said_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    worker = f"import time, pathlib\nwhile True:\n    pathlib.Path({str(beside)!r}).touch()\n    time.sleep(0.01)"
    scripted(
        monkeypatch,
        tmp_path,
        f"subprocess.Popen([sys.executable, '-c', {worker!r}])\nsay('begin', 0)\nsay('loading', 1)\ntime.sleep(600)",
    )
    ended = follow(TASK, when=lambda line: 0.05 if line.word == "loading" else None, timeout_s=60)
    assert [line.word for line in ended.lines] == ["begin", "loading"]
    assert ended.exit_code == -9
    beside.unlink(missing_ok=True)
    time.sleep(0.2)
    assert not beside.exists()


def test_a_process_that_says_nothing_is_told_and_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripted(monkeypatch, tmp_path, "time.sleep(600)")
    with pytest.raises(ChildError, match=r"said nothing for 0.2 s"):
        follow(TASK, when=lambda _: None, timeout_s=0.2)


def test_tasks_and_lines_come_back_as_they_were() -> None:
    assert DrillTask.from_json(TASK.to_json()) == TASK
    line = DrillLine(word="probed", step=12, at_s=1.5, values=("0.1", "0.2", "300"))
    assert DrillLine.from_text(line.to_text()) == line
    with pytest.raises(ValueError, match="invalid literal"):
        DrillLine.from_text("of a network")
