from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vnbench.processes import scratch
from vnbench.processes.locks import NoLocksError
from vnbench.processes.scratch import scratch_folder

HOLDER = """
import sys, time
from pathlib import Path
from vnbench.processes.scratch import scratch_folder
with scratch_folder("vnbench-x-", parent=Path(sys.argv[1])) as folder:
    (folder / "snapshot").write_text("whole")
    print(folder, flush=True)
    time.sleep(600)
"""


def aged(folder: Path) -> Path:
    old = time.time() - 10 * scratch.FRESH_S
    os.utime(folder, (old, old))
    return folder


def test_a_folder_is_there_until_the_end_and_gone_after_it(tmp_path: Path) -> None:
    with scratch_folder("vnbench-x-", parent=tmp_path) as folder:
        (folder / "file").write_text("")
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_behind_is_deleted_and_what_another_holds_is_not(tmp_path: Path) -> None:
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    try:
        killed, held = (Path(one.stdout.readline().strip()) for one in holders if one.stdout is not None)
        holders[0].send_signal(signal.SIGKILL)
        holders[0].wait()
        for folder in (killed, held):
            aged(folder)
        with scratch_folder("vnbench-x-", parent=tmp_path) as own:
            assert set(tmp_path.iterdir()) == {held, own}
            assert (held / "snapshot").read_text() == "whole"
    finally:
        for one in holders:
            one.kill()
            one.communicate()


def test_a_folder_that_was_just_made_and_others_of_the_place_are_left_alone(tmp_path: Path) -> None:
    fresh, other, file = tmp_path / "vnbench-x-fresh", tmp_path / "other", tmp_path / "vnbench-x-file"
    fresh.mkdir()
    other.mkdir()
    file.write_text("")
    for path in (other, file):
        aged(path)
    (tmp_path / "vnbench-x-link").symlink_to(other)
    with scratch_folder("vnbench-x-", parent=tmp_path):
        assert all(path.exists() for path in (fresh, other, file))


def test_without_locks_nothing_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int) -> bool:
        raise NoLocksError(38, "no locks")

    monkeypatch.setattr(scratch, "try_lock", no_locks)
    abandoned = tmp_path / "vnbench-x-old"
    abandoned.mkdir()
    aged(abandoned)
    with scratch_folder("vnbench-x-", parent=tmp_path) as own:
        assert set(tmp_path.iterdir()) == {abandoned, own}
