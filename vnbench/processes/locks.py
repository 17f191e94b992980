"""Exclusive locks between processes, which the system releases however their holder ends."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vnbench.errors import InputError


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file; return False where another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def gpu_lock(uuid: str | None) -> Iterator[None]:
    """Hold the lock of one GPU, or none where ``uuid`` is None (the CPU).

    Raises:
        InputError: another sweep on this machine measures on the same GPU.
    """
    if uuid is None:
        yield
        return
    path = Path(tempfile.gettempdir()) / f"vnbench-{uuid}.lock"
    descriptor = _open_shared(path)
    try:
        if not try_lock(descriptor):
            raise InputError(
                "--device",
                uuid,
                allowed="another sweep is measuring on this GPU",
                remedy="wait for it, or choose another GPU with CUDA_VISIBLE_DEVICES",
            )
        yield
    finally:
        os.close(descriptor)


def _open_shared(path: Path) -> int:
    """Return the descriptor of a lock file that any user of the machine may have made.

    Only reading is asked for: a lock needs no more, and Linux refuses to open another user's file in a sticky folder
    with O_CREAT (fs.protected_regular).
    """
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
