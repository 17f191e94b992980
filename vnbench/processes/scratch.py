"""Folders for one process: deleted when it ends, or by a later one where it was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vnbench.processes.locks import NoLocksError, try_lock

FRESH_S = 60.0
"""Seconds after which a folder without a holder counts as left behind: one that was just made is not locked yet."""


@contextmanager
def scratch_folder(prefix: str, *, parent: Path | None = None) -> Iterator[Path]:
    """Hold a new folder whose name begins with ``prefix``, in ``parent`` or the temporary folder, and delete it.

    Folders with this prefix whose holder was killed are deleted first. Where the file system has no locks, they stay.
    """
    place = parent or Path(tempfile.gettempdir())
    for folder in place.glob(f"{prefix}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            _delete_abandoned(folder)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as name:
        holder = os.open(name, os.O_RDONLY)
        try:
            with suppress(NoLocksError):
                try_lock(holder)
            yield Path(name)
        finally:
            os.close(holder)


def _delete_abandoned(folder: Path) -> None:
    """Delete a folder that nobody holds.

    Raises:
        OSError: it cannot be opened, or the file system has no locks.
    """
    if time.time() - folder.lstat().st_mtime < FRESH_S:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
