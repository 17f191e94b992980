"""Exclusive locks between processes, which the system releases however their holder ends."""

from __future__ import annotations

import errno
import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from vnbench.errors import InputError

HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""What says that another process holds a lock; EACCES is a file server's word for it."""


class NoLocksError(OSError):
    """A file system that has no locks, such as Lustre without its option ``flock``, or NFS without a lock service."""


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file; return False where another process holds it.

    Raises:
        NoLocksError: the file system cannot tell.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise NoLocksError(error.errno, error.strerror) from error
    return True


@contextmanager
def gpu_lock(uuid: str | None) -> Iterator[None]:
    """Hold the lock of one GPU, or none where ``uuid`` is None (the CPU).

    It is a name of the kernel's (an abstract socket): every user and every temporary folder of the machine has the same
    ones, and no file is left that another user may not open. Where there are no such names, there is no lock.

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
