"""Results files as they are named: files, folders of them, and patterns that no shell has expanded."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from vnbench.errors import InputError, readable

SUFFIXES = (".jsonl", *(f".jsonl.{packed}" for packed in ("gz", "zst", "xz", "bz2", "zip")))
"""Ends of their names; what is not read is refused where it is opened, and not left out of a folder without a word."""


def results_files(paths: Iterable[Path], *, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[Path, ...]:
    """Return the files that some paths name: of a folder those that end so, and of a pattern those that match it.

    Raises:
        InputError: a folder holds none, or nothing matches a pattern.
    """
    found = [file for path in paths for one in _matching(path) for file in _files_of(one, suffixes)]
    return tuple(dict.fromkeys(found))


def in_folder(folder: Path, *, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[Path, ...]:
    """Return the files of a folder that end so, sorted; neither hidden ones, nor packed ones beside what was packed."""
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(suffixes) and path.is_file())
    # A Mac writes the resources of x.jsonl into ._x.jsonl where a file system has no room for them.
    shown = [name for name in names if not name.startswith(".")]
    return tuple(folder / name for name in shown if PurePath(name).stem not in shown)


def _matching(path: Path) -> Iterator[Path]:
    if path.exists() or not glob.has_magic(str(path)):
        yield path
        return
    # Of a folder that is there, brackets are a part of the name.
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
