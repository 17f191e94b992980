"""A small archive of a campaign's files: state, logs and records first, and a list of files that are left out."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

LIST_OF_LEFT_OUT = "LEFT_OUT.txt"
"""Name of the archive's list of missing files."""

NEVER = (".png", ".svg", ".html", ".lock", ".part")
"""Suffixes of files that can be drawn again from the records, or are useless elsewhere."""

HEAVY = (".pickle", ".pkl", ".pt")
"""Suffixes of memory snapshots and similar files, which the JSON beside them summarises."""


def write_archive(folder: Path, out: Path, *, limit_bytes: int) -> list[str]:
    """Write the files of a results folder to a compressed archive of at most about ``limit_bytes``.

    State and logs come first, then records and other JSON, small files first, then the rest. Files that do not fit are
    left out, as are pictures and memory snapshots. The archive replaces an older one once it is complete.

    Returns:
        One line per file left out; the archive holds these lines, too.
    """
    left_out: list[str] = []
    taken: list[tuple[Path, bytes, float]] = []
    room = limit_bytes
    for path in _files(folder, but=out):
        name, content = path.relative_to(folder), path.read_bytes()
        if path.suffix in HEAVY:
            left_out.append(f"{name}: {len(content):,} bytes, a memory snapshot")
            continue
        size = len(gzip.compress(content, compresslevel=6))
        if size > room:
            left_out.append(f"{name}: {len(content):,} bytes, {size:,} compressed, of which {room:,} had room")
            continue
        room -= size
        taken.append((name, content, path.stat().st_mtime))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with tarfile.open(part, "w:gz", compresslevel=6) as archive:
        for name, content, modified_s in taken:
            _add(archive, f"{folder.name}/{name}", content, modified_s=modified_s)
        told = "".join(f"{line}\n" for line in left_out).encode()
        _add(archive, f"{folder.name}/{LIST_OF_LEFT_OUT}", told, modified_s=time.time())
    part.replace(out)
    return left_out


def _files(folder: Path, *, but: Path) -> Iterator[Path]:
    """Yield the files that an archive may hold, in order of value."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in NEVER]

    def key(path: Path) -> tuple[int, int, str]:
        if path.parent.name == "campaign" or path.name == "campaign.json":
            rank = 0
        else:
            rank = 1 if path.suffix in (".jsonl", ".json") else 2
        return rank, path.stat().st_size, str(path)

    yield from sorted((path for path in found if path.resolve() != but.resolve()), key=key)


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, modified_s: float) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = modified_s
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
