"""What is known of files: looked at once each, kept in the user's cache, and looked at anew when a file changes.

An entry counts while the file has the size, the times and the inode that it had. Modification times can be set, and
archives and copies do set them; the time of the last change cannot, so that a file put in the place of another of the
same size and modification time is told from it. That time is as fine as the file system's clock: an entry made within
RACY_NS of it may be of a file that changed once more in the same tick, and is not kept (as in git's index).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from vnbench.errors import CorpusError, InputError
from vnbench.images.cache_root import default_cache_root
from vnbench.records.values.identity import digest
from vnbench.units import count, first_few

T = TypeVar("T")

MAX_THREADS = 8
"""Opening a file waits for the disk, which a thread can do while another decodes a header."""

CHUNK = 512
"""Files whose state a thread asks for at a time: handing over one costs more than asking."""

RACY_NS = 2_000_000_000
"""The coarsest clock of a file system in use, that of FAT."""

Stamp = list[int]
"""Bytes, modification time, time of the last change (both ns) and inode of a file."""

Entry = tuple[Stamp, Any]
"""A file's state when it was looked at, and what was seen, in JSON values."""

Progress = Callable[[int, int], None]
"""Is told how many files were looked at, and how many there are to look at."""


def content_digests(names: Sequence[str], *, root: Path, on_progress: Progress | None = None) -> list[str]:
    """Return the SHA-256 of the content of each file, named relative to a folder, in hexadecimal digits.

    Raises:
        InputError: a file cannot be read; the first few are named.
    """
    # With the instructions that processors have for it, it is the fastest of hashlib: 1.2 GB/s on a core of 2 GHz.
    found, problems = look_at_each(names, root=root, kind="digests", look=_content_digest, on_progress=on_progress)
    if problems:
        raise unusable_files(root, problems)
    return [found[name] for name in names]


def look_at_each(
    names: Sequence[str],
    *,
    root: Path,
    kind: str,
    look: Callable[[Path], T],
    on_progress: Progress | None = None,
) -> tuple[dict[str, T], dict[str, str]]:
    """Return what ``look`` sees of each file, in JSON values, or what it saw of the same file before; and problems.

    A file has a problem, told in a line that begins with its name, where ``look`` raises CorpusError or OSError.

    Files are named relative to the folder ``root``. ``kind`` names what is seen. ``on_progress`` is called in the
    calling thread after each file that had to be looked at.
    """
    cache = default_cache_root() / kind / f"{digest(str(root.resolve()))}.json"
    known = _read_cache(cache)
    found: dict[str, T] = {}
    fresh: dict[str, Entry] = {}
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
        for part in pool.map(lambda chunk: _same(chunk, known, root=root), chunks):
            found |= part
        unseen = dict.fromkeys(name for name in names if name not in found)
        waiting = {pool.submit(_look, root / name, look): name for name in unseen}
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                try:
                    entry, is_settled = future.result()
                except (CorpusError, OSError) as error:
                    problems[waiting[future]] = _told(error, root / waiting[future], root=root)
                    continue
                found[waiting[future]] = entry[1]
                if is_settled:
                    fresh[waiting[future]] = entry
                if on_progress is not None:
                    on_progress(done, len(unseen))
        finally:
            pool.shutdown(cancel_futures=True)  # an interruption waits for the files begun, not for all of them
            if fresh:
                _write_cache(cache, {**known, **fresh})
    return found, problems


def unusable_files(root: Path, problems: Mapping[str, str]) -> InputError:
    """Return what to raise for files of a folder that cannot be used: the first few are named, and all counted."""
    told = [problems[name] for name in sorted(problems)]
    return InputError(
        str(root),
        allowed=f"holds {count(len(problems), 'file')} that cannot be used: {first_few(told)}",
        remedy="mend or remove them",
    )


def kind_of_no_file(state: os.stat_result) -> str | None:
    """Return what lies in the place of a regular file: ``a pipe``, ``a folder``; None of a regular file."""
    if stat.S_ISREG(state.st_mode):
        return None
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(state.st_mode), "a device")


def _same(names: Sequence[str], known: Mapping[str, Entry], *, root: Path) -> dict[str, Any]:
    """Return what was seen of those files that are as they were."""
    found = {}
    for name in names:
        entry = known.get(name)
        if entry is not None:
            with suppress(OSError):
                if _stamp(os.stat(os.path.join(root, name))) == entry[0]:
                    found[name] = entry[1]
    return found


def _look(path: Path, look: Callable[[Path], T]) -> tuple[tuple[Stamp, T], bool]:
    """Return what is seen of a file with its state, and whether a later change will show in that state."""
    now_ns = time.time_ns()
    before = os.stat(path)
    if (kind := kind_of_no_file(before)) is not None:  # to open a pipe waits for whoever writes it
        raise CorpusError(f"{path}: is no regular file ({kind})")
    seen = look(path)
    is_settled = before.st_ctime_ns + RACY_NS < now_ns and _stamp(os.stat(path)) == _stamp(before)
    return (_stamp(before), seen), is_settled


def _stamp(state: os.stat_result) -> Stamp:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _content_digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(error: CorpusError | OSError, path: Path, *, root: Path) -> str:
    told = f"{path}: cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        told = f"{path}: is a link to {os.readlink(path)}, which is not there; fetch it, or mend the link"
    return told.removeprefix(f"{root}{os.sep}")


def _read_cache(path: Path) -> dict[str, Entry]:
    """Return the entries of a file; those that are none are left out."""

    def entries() -> Iterator[tuple[str, Entry]]:
        values = json.loads(path.read_bytes())
        for name, entry in values.items() if isinstance(values, dict) else ():
            if isinstance(entry, list) and len(entry) == 2:
                yield name, (entry[0], entry[1])

    with suppress(OSError, ValueError):
        return dict(entries())
    return {}


def _write_cache(path: Path, entries: Mapping[str, Entry]) -> None:
    """Keep what was seen; a cache that cannot be written costs nothing but time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(json.dumps(entries).encode())
        part.replace(path)
