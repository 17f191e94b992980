"""Exclusive locks between processes; the system releases them however their holder ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from vnbench.errors import InputError

HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""Error numbers that mean that another process holds the lock; some file servers answer EACCES."""


class NoLocksError(OSError):
    """A file system without locks, such as Lustre without the option ``flock`` or NFS without a lock service."""


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file; return False if another process holds it.

    Raises:
        NoLocksError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise NoLocksError(error.errno, error.strerror) from error
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back, also where processes that were forked meanwhile hold the same open file."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def gpu_lock(uuid: str | None) -> Iterator[None]:
    """Hold the lock of one GPU, or no lock if ``uuid`` is None (the CPU).

    The lock is the name of an abstract socket. These names are the same for all users and temporary folders of the
    machine, and leave no file that another user may not open. Without abstract sockets there is no lock.

    Raises:
        InputError: another sweep on this machine measures on the same GPU.
    """
    if uuid is None:
        yield
        return
    with socket.socket(socket.AF_UNIX) as holder:
        try:
            holder.bind(f"\0vnbench-{uuid}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(
                    "--device",
                    uuid,
                    allowed="another sweep is measuring on this GPU",
                    remedy="wait for it, or choose another GPU with CUDA_VISIBLE_DEVICES",
                ) from error
        yield
