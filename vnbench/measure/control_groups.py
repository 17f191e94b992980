"""Limits from this process's control groups and all their parents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cpu_quota_cores(root: Path) -> float | None:
    """Return the CPU quota of this process in cores; None for no limit. ``root`` is the folder with proc and sys."""
    return min(_cpu_quotas(root), default=None)


def memory_limit_bytes(root: Path) -> int | None:
    """Return the memory limit of this process in bytes; None for no limit. ``root`` is the folder with proc and sys.

    Version 1 writes "no limit" as the largest number of pages, more than any machine has.
    """
    return min(_memory_limits(root), default=None)


def _cpu_quotas(root: Path) -> Iterator[float]:
    for version, folder in _folders(root, controller="cpu"):
        if version == 2:
            quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
            if quota != "max":
                yield int(quota) / int(period)
        else:
            quota_us, period_us = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
            if quota_us is not None and period_us is not None and int(quota_us) > 0:
                yield int(quota_us) / int(period_us)


def _memory_limits(root: Path) -> Iterator[int]:
    for version, folder in _folders(root, controller="memory"):
        limit = _text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if limit is not None and limit.isdigit():
            yield int(limit)


def _folders(root: Path, *, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of each control group with this controller, from the process's own up to the root.

    A container sees its own group as the root, whatever its path on the host.
    """
    mount = root / "sys/fs/cgroup"
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        place = Path(path.lstrip("/"))
        if controllers == "":
            yield from ((2, mount / part) for part in (place, *place.parents))
        elif controller in controllers.split(","):
            yield from ((1, mount / controller / part) for part in (place, *place.parents))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
