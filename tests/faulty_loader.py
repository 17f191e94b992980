"""Trials whose loader fails while it runs: entries for vnbench.sweep.runner.run_trial."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vnbench.loading.examples
from vnbench.images.decoding.gray_files import read_gray
from vnbench.trial.entry import run

FAILING_FILE = "images/000003.png"


def lose_a_file(payload: str) -> str:
    def failure(path: Path) -> None:
        path.unlink(missing_ok=True)

    return _run(payload, failure)


def kill_a_worker(payload: str) -> str:
    def failure(path: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return _run(payload, failure)


def hang_a_worker(payload: str) -> str:
    def failure(path: Path) -> None:
        time.sleep(600)

    return _run(payload, failure)


def _run(payload: str, failure: Callable[[Path], None]) -> str:
    def read(path: Path, *, expected_size: tuple[int, int]) -> Any:
        if str(path).endswith(FAILING_FILE):
            failure(path)
        return read_gray(path, expected_size=expected_size)

    vnbench.loading.examples.read_gray = read  # type: ignore[assignment]
    return run(payload)
