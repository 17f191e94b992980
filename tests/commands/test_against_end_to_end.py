"""vnbench gate --against as a user runs it, in processes of its own, on images that are small enough for seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vnbench.records.store import load_results

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ROOT = Path(__file__).parents[2]
HANG_GUARD_S = 1_800.0
"""What ends a test of something that never happens; however slow a machine is, what does happen takes less."""

SMALL = ["--widths", "64:160", "--heights", "32:64", "--device", "cpu", "--examples", "10", "--subset", "2"]
SMALL += ["--batch-size", "1", "--sampler", "random", "--precision", "fp32", "--norm-precision", "fp32"]
SMALL += ["--checkpointing", "none", "--num-workers", "0", "--max-steps", "3"]
TRAINING = [*SMALL, "--kind", "training"]

NETWORK = """\
from torch import nn


def build(*, num_classes):
    width = 8
    layers = [nn.Conv2d(width, width, 3, padding=1) for _ in range(NUM_LAYERS)]
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), *layers, nn.Conv2d(width, num_classes, 1))
"""


class Gate:
    """Runs the command in one folder; every process it starts carries a mark by which it is found again."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.temporary = cache.parent / "t"
        self.temporary.mkdir()
        self.environment = os.environ | {
            "TMPDIR": str(self.temporary),
            "VNBENCH_TEST_MARK": self.mark,
            "XDG_CACHE_HOME": str(cache),
            "COLUMNS": "200",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "vnbench", "gate", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in the background has them ignore an interrupt, and all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=HANG_GUARD_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def processes(self) -> list[int]:
        """Return the processes that are left of the command."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                is_ours = self.mark.encode() in (entry / "environ").read_bytes()
                is_there = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            except OSError:
                continue
            if is_ours and is_there:
                found.append(int(entry.name))
        return found

    def has_ended(self) -> bool:
        """Return whether nothing is left of the command: no process, and no folder of a trial."""
        return not self.processes() and not list(self.temporary.glob("vnbench-*"))

    def num_records(self, out: str) -> int:
        files = [self.folder / out / f"{side}.jsonl" for side in ("baseline", "candidate")]
        return sum(len(load_results(file).records) for file in files if file.exists())


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_GUARD_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Return the command in a repository of a network, in whose second commit it has 40 layers instead of one."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(tmp_path, "init", "-q", "-b", "main", str(folder))
    for number in (1, 40):
        (folder / "net.py").write_text(NETWORK.replace("NUM_LAYERS", str(number)))
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"{number} layers")
    found = Gate(folder, tmp_path / "cache")
    yield found
    for pid in found.processes():
        os.kill(pid, signal.SIGKILL)


def test_the_same_network_is_no_regression_in_what_no_clock_decides(gate: Gate) -> None:
    command = ["--against", "HEAD", "--model", "net.py:build", *SMALL, "--kind", "memory,training"]
    done = gate.run(*command, "--metrics", "status,memory,padding,operators", "--junit", "gate.xml")
    assert done.returncode == 0, done.stderr
    assert "pass: " in done.stdout
    assert (gate.folder / "gate.xml").read_text().startswith("<?xml")
    (kept,) = (gate.folder / "results" / "gate").iterdir()
    assert {file.name for file in kept.iterdir()} == {"baseline.jsonl", "candidate.jsonl"}


def test_a_slower_step_in_a_copy_of_the_source_is_found(tmp_path: Path) -> None:
    for name in ("before", "after"):
        shutil.copytree(
            ROOT / "vnbench", tmp_path / name / "vnbench", ignore=shutil.ignore_patterns("__pycache__", "shipped")
        )
        shutil.copy(ROOT / "pyproject.toml", tmp_path / name)
    step = tmp_path / "after" / "vnbench" / "trial" / "step" / "optimizer_step.py"
    source = step.read_text()
    begin = "        timer.begin_step()\n        with timer.phase"
    assert source.count(begin) == 1
    slower = source.replace(begin, begin.replace("with", "__import__('time').sleep(0.3)\n        with"))
    step.write_text(slower)
    gate = Gate(tmp_path / "after", tmp_path / "cache")
    done = gate.run("--against", "../before", *TRAINING, "--json")
    assert done.returncode == 1, done.stderr
    assert "time" in {row["metric"] for row in json.loads(done.stdout)["rows"] if row["verdict"] == "worse"}


def test_ctrl_c_ends_it_and_the_same_command_goes_on_to_find_that_a_network_became_heavy(gate: Gate) -> None:
    command = ["--against", "HEAD~", "--model", "net.py:build", *TRAINING, "--metrics", "status,time", "--out", "r"]
    process = gate.start(*command)
    wait_for(lambda: gate.num_records("r") >= 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_GUARD_S)
    assert process.returncode == 130
    assert out == ""
    assert "the same command goes on" in err
    assert "Traceback" not in err
    wait_for(gate.has_ended)
    before = gate.num_records("r")
    done = gate.run(*command, "--json")
    assert done.returncode == 1, done.stderr
    assert "block 1:" not in done.stderr
    assert gate.num_records("r") > before
    wait_for(gate.has_ended)

    report = json.loads(done.stdout)
    assert report["outcome"] == "regression"
    (row,) = (row for row in report["rows"] if row["metric"] == "time")
    assert row["verdict"] == "worse"
    assert row["ratio"] > 2
    specs = [load_results(gate.folder / "r" / f"{side}.jsonl").records[0].spec for side in ("baseline", "candidate")]
    assert specs[0].model == specs[1].model == "net.py:build"
    assert specs[0].model_id != specs[1].model_id
    assert [row["spec_id"], row["candidate_spec_id"]] == [spec.spec_id for spec in specs]
    assert "its text changed" in report["remarks"][0]


def test_nothing_runs_on_when_it_is_killed(gate: Gate) -> None:
    process = gate.start("--against", "HEAD~", "--model", "net.py:build", *TRAINING, "--out", "r")
    wait_for(lambda: gate.num_records("r") >= 1)
    wait_for(lambda: len(gate.processes()) > 3)
    process.kill()
    process.communicate(timeout=HANG_GUARD_S)
    wait_for(gate.has_ended)
