"""Where a user keeps what can be made again, whatever home there is: none, one that nobody may write, or another."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def user_cache() -> Path:
    """Return vnbench's folder in the user's cache, or in the temporary one where that cannot be written."""
    folder = configured_cache()
    return folder if folder is not None and can_be_written(folder) else temporary_cache()


def configured_cache() -> Path | None:
    """Return vnbench's folder in the user's cache, whether it can be written or not; None where there is no home."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification says that a relative path is to be ignored.
    folder = configured if configured.is_absolute() else Path(os.path.expanduser("~")) / ".cache"
    return folder / "vnbench" if folder.is_absolute() else None


def temporary_cache() -> Path:
    """Return vnbench's folder of this user in the temporary folder."""
    return Path(tempfile.gettempdir()) / f"vnbench-{os.getuid()}"


def settle_matplotlib() -> None:
    """Give matplotlib a folder where its own cannot be written: it would complain, and list the fonts in each run.

    And take from it what a notebook tells its programs, namely to draw on a page that they know nothing of.
    """
    os.environ.pop("MPLBACKEND", None)
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    folder = configured if configured.is_absolute() else Path(os.path.expanduser("~")) / ".config"
    if not can_be_written(folder / "matplotlib") or user_cache() == temporary_cache():
        os.environ.setdefault("MPLCONFIGDIR", str(user_cache() / "matplotlib"))


def can_be_written(folder: Path) -> bool:
    """Return whether a folder, or the nearest one above it that exists, lets this process write."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False
