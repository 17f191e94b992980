"""The files below a folder, without hidden files and system files, with links followed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "desktop.ini",
        "ehthumbs.db",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
"""Names in lower case that archives, file servers and Windows create for thumbnails, forks and deleted files."""

Identity = tuple[int, int]
"""Device and inode of a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """The files below a folder. Folders are named relative to it with ``/``; the folder itself is the empty string."""

    files: dict[str, list[str]] = field(default_factory=dict)
    """Sorted names of the files in each folder; folders are ordered by name, each before its subfolders."""
    identities: dict[str, Identity] = field(default_factory=dict)
    """Device and inode of each folder."""
    linked: set[str] = field(default_factory=set)
    """Folders that are reached through a link."""
    rings: list[str] = field(default_factory=list)
    """Links that are not followed: they lead to a folder above, or to the target of another link."""
    broken: list[str] = field(default_factory=list)
    """Dead links, for example to a folder on a missing disk. Dead links with a suffix count as files."""


def look_through(root: Path) -> Tree:
    """Return the files below a folder.

    Raises:
        OSError: a folder cannot be read.
    """
    tree = Tree()
    above = {_identity(folder) for folder in root.resolve().parents}
    targets: set[Identity] = set()
    waiting = [("", frozenset((_identity(root),)))]
    while waiting:
        folder, line = waiting.pop()
        prefix = f"{folder}/" if folder else ""
        names, folders, broken = _entries(f"{root}/{folder}")
        tree.files[folder] = names
        tree.broken.extend(prefix + name for name in broken)
        below = []
        for name, is_link in folders:
            path = prefix + name
            identity = _identity(f"{root}/{path}")
            if is_link and (identity in line | above | targets):
                tree.rings.append(path)
                continue
            if is_link:
                targets.add(identity)
            if is_link or folder in tree.linked:
                tree.linked.add(path)
            tree.identities[path] = identity
            below.append((path, line | {identity}))
        waiting += reversed(below)
    return tree


def _entries(folder: str) -> tuple[list[str], list[tuple[str, bool]], list[str]]:
    """Return the files in a folder, its subfolders with whether each is a link, and its broken links."""
    names: list[str] = []
    folders: list[tuple[str, bool]] = []
    broken: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.lower() in SYSTEM_NAMES:
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                is_folder = False
            if is_folder:
                folders.append((name, entry.is_symlink()))
            elif "." in name or not entry.is_symlink() or os.path.exists(entry.path):
                names.append(name)
            else:
                broken.append(name)
    return sorted(names), sorted(folders), sorted(broken)


def _identity(folder: str | Path) -> Identity:
    state = os.stat(folder)
    return state.st_dev, state.st_ino
