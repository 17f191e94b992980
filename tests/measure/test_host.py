from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from vnbench.measure import host
from vnbench.measure.host import HostReader, HostReading, busy_threshold, summarise_host
from vnbench.measure.sampling import Stamped

ROOT = 10
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COMPUTE_HALF_A_SECOND = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


class FakeProc:
    """A folder that looks like /proc: CPUs 0 to 2, of which the watched process may use 0 and 1."""

    def __init__(self, path: Path, *, has_children_files: bool = True) -> None:
        self.path = path
        self.has_children_files = has_children_files

    def set_cpus(self, *ticks: Sequence[int]) -> None:
        lines = [f"cpu{number} " + " ".join(str(value) for value in values) for number, values in enumerate(ticks)]
        total = "cpu " + " ".join(str(sum(column)) for column in zip(*ticks, strict=True))
        (self.path / "stat").write_text("\n".join([total, *lines, "intr 1 2 3", "ctxt 4"]) + "\n")

    def set_process(self, pid: int, *, parent: int, ticks: Sequence[int], children: Sequence[int] = ()) -> None:
        folder = self.path / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        before = " ".join(["S", str(parent), *["0"] * 9])
        (folder / "stat").write_text(f"{pid} (a (strange) name) {before} {' '.join(map(str, ticks))} 20 0 1 0\n")
        if self.has_children_files:
            (folder / "task" / str(pid) / "children").write_text("".join(f"{child} " for child in children))

    def reader(self) -> HostReader:
        return HostReader(root_pid=ROOT, cpus={0, 1}, proc=self.path)


@pytest.fixture(params=[True, False], ids=["children-files", "parent-numbers"])
def proc(request: pytest.FixtureRequest, tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path, has_children_files=request.param)


def test_a_reading_sums_the_usable_cores_and_the_process_tree(proc: FakeProc) -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice
    proc.set_cpus(
        (100, 10, 20, 900, 5, 3, 2, 7, 50, 0), (200, 0, 30, 800, 0, 0, 1, 4, 0, 0), (9999, 0, 0, 0, 0, 0, 0, 99, 0, 0)
    )
    proc.set_process(ROOT, parent=1, ticks=(10, 1, 100, 20), children=(11,))
    proc.set_process(11, parent=ROOT, ticks=(40, 5, 0, 0), children=(12, 13))
    proc.set_process(12, parent=11, ticks=(7, 0, 0, 0))
    proc.set_process(14, parent=1, ticks=(5000, 0, 0, 0))
    reading = proc.reader().read()
    assert reading == HostReading(
        busy_s=(135 + 231) / TICKS_PER_S, stolen_s=11 / TICKS_PER_S, own_s=(131 + 45 + 7) / TICKS_PER_S
    )


def test_a_child_that_ended_and_was_waited_for_takes_no_time_away(proc: FakeProc) -> None:
    proc.set_cpus((0,) * 10, (0,) * 10)
    proc.set_process(ROOT, parent=1, ticks=(10, 0, 0, 0), children=(11,))
    proc.set_process(11, parent=ROOT, ticks=(40, 5, 0, 0))
    reader = proc.reader()
    before = reader.read()
    (proc.path / "11" / "stat").unlink()
    proc.set_process(ROOT, parent=1, ticks=(10, 0, 42, 6), children=(11,))
    after = reader.read()
    assert before is not None
    assert after is not None
    assert after.own_s - before.own_s == pytest.approx(3 / TICKS_PER_S)


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert HostReader(proc=tmp_path / "none").read() is None
    assert summarise_host([], num_cpus=2, measured=None) is None


def at(at_s: float, *, busy_s: float, own_s: float = 0.0, stolen_s: float = 0.0) -> Stamped[HostReading]:
    return Stamped(at_s=at_s, reading=HostReading(busy_s=busy_s, stolen_s=stolen_s, own_s=own_s))


def test_other_cores_are_busy_ones_less_our_own_in_the_measured_span() -> None:
    readings = [
        at(0.0, busy_s=0.0),
        at(1.0, busy_s=5.0, own_s=1.0, stolen_s=0.0),
        at(3.0, busy_s=8.0, own_s=2.0, stolen_s=0.5),
        at(9.0, busy_s=90.0, own_s=2.0),
    ]
    told = summarise_host(readings, num_cpus=2, measured=(0.5, 4.0))
    assert told == {
        "num_cpus": 2,
        "num_readings": 2,
        "period_s": host.PERIOD_S,
        "observed_s": 2.0,
        "own_busy_cores": 0.5,
        "other_busy_cores": 1.0,
        "stolen_cores": 0.25,
    }


def test_time_that_an_ended_process_took_away_does_not_make_our_own_negative() -> None:
    readings = [at(0.0, busy_s=0.0, own_s=5.0), at(1.0, busy_s=1.0, own_s=6.0), at(2.0, busy_s=2.0, own_s=0.5)]
    told = summarise_host(readings, num_cpus=2, measured=None)
    assert told is not None
    assert told["own_busy_cores"] == 0.5
    assert told["other_busy_cores"] == 0.5


def test_our_own_time_beyond_the_ticks_of_the_cores_leaves_others_at_zero() -> None:
    told = summarise_host([at(0.0, busy_s=0.0), at(1.0, busy_s=0.98, own_s=1.0)], num_cpus=2, measured=None)
    assert told is not None
    assert told["other_busy_cores"] == 0.0


def test_of_a_span_that_is_too_short_nothing_is_said() -> None:
    readings = [at(index / 5, busy_s=float(index)) for index in range(10)]
    told = summarise_host(readings, num_cpus=2, measured=(0.1, 0.5))
    assert told is not None
    assert told["num_readings"] == 2
    assert told["other_busy_cores"] is told["stolen_cores"] is told["own_busy_cores"] is None


@pytest.mark.parametrize(("num_cpus", "cores"), [(1, 0.25), (2, 0.25), (16, 0.8), (64, 3.2)])
def test_the_threshold_grows_with_the_machine(num_cpus: int, cores: float) -> None:
    assert busy_threshold(num_cpus) == pytest.approx(cores)


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_the_work_of_a_child_process_is_our_own() -> None:
    reader = HostReader()
    before = reader.read()
    subprocess.run([sys.executable, "-c", COMPUTE_HALF_A_SECOND], check=True)
    after = reader.read()
    assert before is not None
    assert after is not None
    assert after.own_s - before.own_s >= 0.45
    assert after.busy_s - before.busy_s >= 0.25, "a kernel may count the time of all by its ticks"


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_the_work_of_another_program_is_not_our_own() -> None:
    reader = HostReader()
    before = reader.read()
    # In the background of a shell that has ended it is no descendant; its output closes when it has done its work.
    program = shlex.join([sys.executable, "-c", COMPUTE_HALF_A_SECOND])
    subprocess.run(f"{program} &", shell=True, stdout=subprocess.PIPE, check=True)
    after = reader.read()
    assert before is not None
    assert after is not None
    own_s, busy_s = after.own_s - before.own_s, after.busy_s - before.busy_s
    assert busy_s - own_s >= 0.25
