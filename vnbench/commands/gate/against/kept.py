"""What gates keep in the user's cache, to find it again: files of revisions, and environments with their packages."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from vnbench.processes.locks import NoLocksError, try_lock
from vnbench.processes.user_cache import user_cache

TREES, ENVIRONMENTS = "trees", "environments"

MOST_KEPT: Mapping[str, int] = {TREES: 8, ENVIRONMENTS: 3}
"""Revisions and environments that are kept, those used last. An environment may hold a torch of its own: gigabytes."""

PARTIAL = "partial-"
"""Begins the name of a folder that is being filled."""


def place_of(kind: str) -> Path:
    """Return the folder of the trees or of the environments."""
    return user_cache() / kind


def mark_used(place: Path) -> None:
    """Take note that a tree or an environment is used now."""
    with suppress(OSError):
        os.utime(place)


@contextmanager
def kept_in_use() -> Iterator[None]:
    """Keep every tree and environment while a gate may use it; after the last gate, drop what was used longest ago.

    Gates share a lock; only one that has it alone drops anything. Where files cannot be locked, nothing is dropped.
    """
    try:
        user_cache().mkdir(parents=True, exist_ok=True)
        descriptor = os.open(user_cache() / "gates.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield  # Whatever needs the cache says what is wrong with it.
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        with suppress(NoLocksError):
            if try_lock(descriptor):
                for kind, most in MOST_KEPT.items():
                    _drop(place_of(kind), most=most)
        os.close(descriptor)


def _drop(folder: Path, *, most: int) -> None:
    """Remove all but the ``most`` folders that were used last, and what gates that were killed left half filled."""
    with suppress(OSError):
        places = sorted(folder.iterdir(), key=lambda place: place.stat().st_mtime_ns, reverse=True)
        whole = [place for place in places if not place.name.startswith(PARTIAL)]
        for place in {*places} - {*whole[:most]}:
            shutil.rmtree(place, ignore_errors=True)
