"""The operating system's page cache: dropping files from it, and asking whether files are in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path


def drop_from_page_cache(paths: Iterable[Path]) -> None:
    """Ask the operating system to forget the contents of files, so that the next read comes from the disk.

    It would keep data that is not written yet, so that is written first. File systems without a page cache ignore this.

    Raises:
        OSError: a file cannot be opened.
    """
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_ratio(paths: Iterable[Path]) -> float | None:
    """Return the share of files whose first byte is in memory; None if there are no files or the system cannot tell.

    A read that must not wait (RWF_NOWAIT on Linux) succeeds only from memory. It may start reading ahead, so do not ask
    about files that are still to be measured cold.
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
