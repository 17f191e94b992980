"""The operating system's copies of files in memory: whether they are there, and how to let go of them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


def drop_from_page_cache(paths: Iterable[Path]) -> None:
    """Ask the operating system to forget the contents of files, so that the next read comes from the disk.

    It keeps what is not written yet, so that is written first. A file system without such a cache ignores it.

    Raises:
        OSError: a file cannot be opened.
    """
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_ratio(paths: Iterable[Path]) -> float | None:
    """Return the share of files whose first bytes are in memory; None where the system does not tell, or without files.

    A read that must not wait (RWF_NOWAIT of Linux) succeeds on what is in memory. It may start to read ahead, so ask
    about files that are not to be measured cold any more.
    """
    answers: list[bool] = []
    for path in paths:
        with path.open("rb") as file:
            try:
                answers.append(os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1)
            except BlockingIOError:
                answers.append(False)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
                return None
    return sum(answers) / len(answers) if answers else None
