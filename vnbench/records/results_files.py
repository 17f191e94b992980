"""Find results files by path, folder or pattern."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from vnbench.errors import InputError, readable

SUFFIXES = (".jsonl", *(f".jsonl.{packed}" for packed in ("gz", "zst", "xz", "bz2", "zip")))
"""Suffixes of results files. Unsupported compressions are included: they are refused when opened, not ignored."""


def results_files(paths: Iterable[Path], *, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[Path, ...]:
    """Return the files that the paths name: all with a suffix in a folder, all that match a pattern.

    Raises:
        InputError: a folder holds no such file or cannot be read, or nothing matches a pattern.
    """
    found = [file for path in paths for one in _matching(path) for file in _files_of(one, suffixes)]
    return tuple(dict.fromkeys(found))


def in_folder(folder: Path, *, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[Path, ...]:
    """Return the files of a folder with a suffix, sorted, without hidden files and without x.gz if x is there too."""
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(suffixes) and path.is_file())
    # macOS writes metadata of x.jsonl into ._x.jsonl on file systems that cannot hold it.
    shown = [name for name in names if not name.startswith(".")]
    return tuple(folder / name for name in shown if PurePath(name).stem not in shown)


def _matching(path: Path) -> Iterator[Path]:
    if path.exists() or not glob.has_magic(str(path)):
        yield path
        return
    # In the name of an existing folder, brackets are not a pattern.
    folder = next(one for one in path.parents if one.is_dir())
    found = sorted(glob.glob(str(path.relative_to(folder)), root_dir=folder, recursive=True))
    if not found:
        raise InputError(str(path), allowed="no file matches this pattern", remedy="name a results file or its folder")
    yield from (folder / name for name in found)


def _files_of(path: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    with readable("RESULTS"):
        found = in_folder(path, suffixes=suffixes)
    if not found:
        raise InputError(
            str(path), allowed="there is no results file in this folder", remedy="name a .jsonl file or its folder"
        )
    return found
