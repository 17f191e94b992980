"""Find a folder for cached files, even if the home folder is missing or read-only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """Return vnbench's folder in the user's cache, or in the temporary folder if the cache cannot be written."""
    folder = configured_cache()
    return folder if folder is not None and can_be_written(folder) else temporary_cache()


def configured_cache() -> Path | None:
    """Return vnbench's folder in the user's cache, writable or not; None if there is no home folder."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification says that relative paths must be ignored.
    folder = configured if configured.is_absolute() else Path(os.path.expanduser("~")) / ".cache"
    return folder / "vnbench" if folder.is_absolute() else None


def temporary_cache() -> Path:
    """Return this user's vnbench folder in the temporary folder."""
    return Path(tempfile.gettempdir()) / f"vnbench-{os.getuid()}"


def settle_matplotlib() -> None:
    """Give matplotlib a writable folder if its own is not: it would warn, and list all fonts, in each run.

    Also drop MPLBACKEND: a notebook sets it for its own kernel, and subprocesses cannot use that backend.
    """
    os.environ.pop("MPLBACKEND", None)
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    folder = configured if configured.is_absolute() else Path(os.path.expanduser("~")) / ".config"
    if not can_be_written(folder / "matplotlib") or user_cache() == temporary_cache():
        os.environ.setdefault("MPLCONFIGDIR", str(user_cache() / "matplotlib"))


def can_be_written(folder: Path) -> bool:
    """Return whether this process may write to a folder, or to its nearest parent that exists."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False
