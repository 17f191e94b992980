from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from vnbench.errors import InputError
from vnbench.processes.locks import gpu_lock


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
