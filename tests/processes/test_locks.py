from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from vnbench.errors import InputError
from vnbench.processes.locks import NoLocksError, gpu_lock, try_lock


def test_one_gpu_is_measured_by_one_sweep_at_a_time() -> None:
    device = f"GPU-{uuid.uuid4()}"
    script = f"from vnbench.processes.locks import gpu_lock\nwith gpu_lock({device!r}): pass"
    with gpu_lock(device):
        with pytest.raises(InputError, match=f"{device}: another sweep is measuring on this GPU"):
            gpu_lock(device).__enter__()
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode != 0
        with gpu_lock(f"GPU-{uuid.uuid4()}"):
            pass
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_cpu_needs_no_lock() -> None:
    with gpu_lock(None), gpu_lock(None):
        pass


def test_a_lock_is_one_for_all_temporary_folders_and_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = f"GPU-{uuid.uuid4()}"
    with gpu_lock(device):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(InputError), gpu_lock(device):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_a_file_system_without_locks_says_so(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch, number)
    with pytest.raises(NoLocksError, match=re.escape(os.strerror(number))):
        try_lock(0)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_process_holds_is_not_ours(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_locks(monkeypatch, number)
    assert not try_lock(0)


def refuse_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
