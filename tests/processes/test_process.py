from __future__ import annotations

import multiprocessing.forkserver
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripted_child import LONG_S

from vnbench.errors import InputError
from vnbench.processes.parent import SPIN_COUNT, ChildOutcome, run_child, start_server

HANG_GUARD_S = 300.0
"""What ends a test of something that never happens; however slow a machine is, what does happen takes less."""


def child(behaviour: str, payload: str = "hello", *, timeout_s: float = HANG_GUARD_S) -> ChildOutcome:
    return run_child(f"scripted_child:{behaviour}", payload, timeout_s=timeout_s)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_dead(pid: int) -> bool:
    end = time.monotonic() + HANG_GUARD_S
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)


def test_a_child_returns_its_answer() -> None:
    outcome = child("echo")
    assert outcome.answer == b"hello"
    assert outcome.exit_code == 0
    assert not outcome.is_timeout


def test_an_answer_larger_than_the_pipe_arrives_whole() -> None:
    payload = "x" * 3_000_000
    assert child("echo", payload).answer == payload.encode()


def test_what_a_child_prints_goes_to_its_log_and_not_to_our_output(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = child("print_a_lot")
    assert outcome.answer == b"hello"
    assert set(outcome.log_tail.splitlines()) == {"noise on stdout", "noise on stderr", "noise of a grandchild"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ["end", "be_killed"])
def test_temporary_files_of_a_child_go_with_it_however_it_ends(tmp_path: Path, ending: str) -> None:
    told = tmp_path / "told"
    child("leave_a_temporary_file_and_" + ending, str(told))
    left = Path(told.read_text())
    assert not left.exists()
    assert not left.parent.exists()


def test_a_killed_child_is_told_by_its_signal() -> None:
    outcome = child("be_killed")
    assert (outcome.answer, outcome.exit_code, outcome.is_timeout) == (None, -9, False)


def test_an_exit_code_is_told() -> None:
    assert child("exit_with_7").exit_code == 7


def test_exit_0_without_an_answer_is_no_answer() -> None:
    outcome = child("exit_in_order_without_a_record")
    assert (outcome.answer, outcome.exit_code, outcome.num_answer_bytes) == (None, 0, 0)


def test_a_child_whose_start_is_interrupted_tells_nothing_of_the_insides() -> None:
    program = (
        "import os; from multiprocessing.forkserver import connect_to_new_process, read_signed\n"
        "from vnbench.processes.parent import start_server; start_server(())\n"
        "status, order = connect_to_new_process([])\n"
        "os.close(order)\n"  # as an interrupt between the two halves of a start does
        "read_signed(status)\n"  # its process number, then its exit code
        "print(read_signed(status))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_an_exception_leaves_its_traceback_in_the_log() -> None:
    outcome = child("raise_an_error")
    assert outcome.exit_code == 1
    assert "scripted failure" in outcome.log_tail


def test_a_hanging_child_is_ended_at_its_deadline() -> None:
    outcome = child("hang", timeout_s=0.5)
    assert outcome.is_timeout
    assert outcome.answer is None
    assert 0.5 <= outcome.elapsed_s < LONG_S


def test_a_child_that_closes_the_pipe_and_lives_on_is_ended_at_its_deadline() -> None:
    outcome = child("close_the_pipe_and_live_on", timeout_s=0.5)
    assert outcome.is_timeout
    assert outcome.elapsed_s < LONG_S


def test_an_answer_counts_though_the_child_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnbench.processes.parent.EXIT_GRACE_S", 0.2)
    outcome = child("answer_and_live_on")
    assert outcome.answer == b"hello"
    assert (outcome.exit_code, outcome.is_timeout) == (None, False), "it had to be ended"
    assert outcome.elapsed_s < LONG_S


def test_a_torn_answer_is_no_answer() -> None:
    payload = task_json()
    outcome = child("write_a_torn_record", payload)
    assert outcome.answer is None
    assert outcome.num_answer_bytes > 0


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnbench.processes.parent.MAX_ANSWER_BYTES", 100_000)
    monkeypatch.setattr("vnbench.processes.parent.EXIT_GRACE_S", 0.5)
    outcome = child("echo", "x" * 5_000_000)
    assert outcome.answer is None
    assert outcome.num_answer_bytes < 3_000_000


def test_grandchildren_end_with_the_child() -> None:
    outcome = child("leave_a_grandchild")
    assert outcome.answer is not None
    assert wait_until_dead(int(outcome.answer))


def test_what_the_forkserver_imports_asks_cuda_nothing() -> None:
    script = """
import importlib, sys, types
import torch
from vnbench.processes.parent import PRELOAD
asked = []
for module in (torch.cuda, torch.accelerator):
    for name, function in list(vars(module).items()):
        if isinstance(function, types.FunctionType):
            def noted(*args, _name=name, _function=function, **kwargs):
                asked.append(_name)
                return _function(*args, **kwargs)
            setattr(module, name, noted)
for name in PRELOAD:
    importlib.import_module(name)
sys.exit(repr(asked) if set(asked) - {"_is_compiled"} else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_server_of_children_asks_nvml_for_a_gpu_and_its_children_ask_as_they_would_anyway(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import os\nNAME = 'PYTORCH_NVML_BASED_CUDA_CHECK'\nON_IMPORT = os.environ.get(NAME)\n"
        "def say(payload): return f'{ON_IMPORT} {os.environ.get(NAME)}'\n"
    )
    (tmp_path / "parent.py").write_text(
        "from vnbench.processes.parent import run_child\n"
        "if __name__ == '__main__':\n"
        "    print(run_child('told:say', '', timeout_s=600, preload=['told']).answer.decode())\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "PYTORCH_NVML_BASED_CUDA_CHECK"}
    kept["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    for given, expected in (({}, "1 None"), ({"PYTORCH_NVML_BASED_CUDA_CHECK": "0"}, "1 0")):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "parent.py")], env=kept | given, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == expected, done.stderr


def test_no_room_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", find_none)
    with pytest.raises(InputError, match=r"TMPDIR.*no file can be written there, nor in /tmp; make room"):
        start_server()


def test_threads_start_the_server_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []
    most: list[int] = []

    def ensure_running() -> None:
        inside.append(1)
        time.sleep(0.05)  # time for the others to come, if nothing kept them out
        most.append(len(inside))
        inside.pop()

    monkeypatch.setattr(multiprocessing.forkserver, "ensure_running", ensure_running)
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda _: start_server(()), range(4)))
    assert most == [1] * 4


def test_everything_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "from vnbench.processes.parent import run_child\n"
        "if __name__ == '__main__':\n"
        "    run_child('scripted_child:hang_with_a_grandchild', '31536001', timeout_s=600, preload=['json'])\n"
    )
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    family = _wait_for_family(parent.pid)
    parent.kill()
    parent.wait()
    assert all(wait_until_dead(pid) for pid in family)


def _wait_for_family(parent: int) -> list[int]:
    """Return the descendants of a process once the grandchild of its script is among them."""
    end = time.monotonic() + HANG_GUARD_S
    while time.monotonic() < end:
        family = _descendants(parent)
        if any("31536001" in _command_line(pid) and "sleep" in _command_line(pid) for pid in family):
            return family
        time.sleep(0.05)
    raise AssertionError("the grandchild did not start")


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ")
    except OSError:
        return ""


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def task_json() -> str:
    from record_factory import training_spec

    from vnbench.records.task import TrialTask

    return TrialTask(spec=training_spec(), replicate=0, attempt=0, corpus_directory=None).to_json()


def test_threads_of_a_trial_soon_give_their_core_away_unless_somebody_says_otherwise() -> None:
    program = (
        "import os; from vnbench.processes.parent import start_server; start_server(()); "
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    for given, expected in (({}, SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")):
        kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
        done = subprocess.run(
            [sys.executable, "-c", program], env=kept | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
