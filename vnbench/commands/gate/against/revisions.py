"""The two source trees of a gate: the working folder as it is, and a folder or an extracted revision beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.commands.gate.against.kept import PARTIAL, TREES, mark_used, place_of
from vnbench.errors import InputError
from vnbench.meant import closest

WHERE = "--against"

ID_DIGITS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A source tree."""

    name: str
    """What it is called in names of files: a commit, with a digest of what differs from it, or a folder's name."""
    told: str
    """What it is called for people."""
    root: Path
    """Its root."""
    folder: Path
    """The folder in it that stands for the working folder."""

    @property
    def is_vnbench(self) -> bool:
        """Whether it is a source tree of vnbench itself."""
        return _project(self.root).get("name") == "vnbench"

    @property
    def requirements(self) -> tuple[str, ...]:
        """Packages that its pyproject.toml says that it needs, sorted."""
        return tuple(sorted(_project(self.root).get("dependencies", ())))


def candidate_tree(folder: Path) -> Tree:
    """Return the tree of the working folder: its whole repository where it lies in one."""
    top = git(folder, "rev-parse", "--show-toplevel")
    root = folder if top is None else Path(top)
    commit = None if top is None else git(folder, "rev-parse", f"--short={ID_DIGITS}", "HEAD")
    if commit is None:
        return Tree(name=_named(folder), told=f"the working folder {folder}", root=root, folder=folder)
    changed = _changes(root)
    return Tree(
        name=f"{commit}-changed-{changed}" if changed else commit,
        told=f"the working folder, {commit}{' with uncommitted changes' if changed else ''}",
        root=root,
        folder=folder,
    )


def baseline_tree(asked: str, *, candidate: Tree, into: Path | None = None) -> Tree:
    """Return the tree that ``--against`` names: a folder, or a revision of the candidate's repository.

    A revision's files go to the folder ``into``, by default one in the user's cache where they are found again; the
    repository is left as it is.

    Raises:
        InputError: it is neither.
    """
    if not asked.strip():
        raise InputError(WHERE, "''", allowed="it is empty", remedy="name a revision or a folder")
    directory = Path(os.path.expanduser(asked))
    if directory.is_dir():
        root = directory.resolve()
        return Tree(name=_named(root), told=f"the folder {root}", root=root, folder=root)
    if git(candidate.folder, "rev-parse", "--show-toplevel") is None:
        raise InputError(
            WHERE,
            asked,
            allowed="there is no such folder, and the working folder lies in no git repository",
            remedy="name a folder, or run the command in the repository",
        )
    commit = git(candidate.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{asked}^{{commit}}")
    if commit is None:
        known = (git(candidate.root, "for-each-ref", "--format=%(refname:short)") or "").split()
        near = closest(asked, known)
        raise InputError(
            WHERE,
            asked,
            allowed=f"there is no such folder, and no such revision in {candidate.root}",
            remedy=f"write {near}" if near else "write a commit, a branch or a tag, as git log names them",
        )
    root = _extracted(candidate.root, commit, into=into or place_of(TREES))
    short = commit[:ID_DIGITS]
    folder = root / candidate.folder.relative_to(candidate.root)
    if not folder.is_dir():
        raise InputError(
            WHERE,
            asked,
            allowed=f"{short} has no folder {folder.relative_to(root)}",
            remedy="name a later revision, or run the command at the root of the repository",
        )
    return Tree(name=short, told=short if asked.startswith(short) else f"{asked}, {short}", root=root, folder=folder)


def _extracted(repository: Path, commit: str, *, into: Path) -> Path:
    """Return the folder of a commit's files in a folder of such, extracted first where it is not there yet.

    Raises:
        InputError: they cannot be extracted.
    """
    place = into / commit
    if place.is_dir():
        mark_used(place)
        return place
    partial: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=PARTIAL))
        archive = subprocess.Popen(
            ["git", "-C", str(repository), "archive", "--format=tar", commit], stdout=subprocess.PIPE
        )
        with archive:
            done = subprocess.run(["tar", "-x", "-C", str(partial)], stdin=archive.stdout, check=False)
        if archive.returncode or done.returncode:
            raise InputError(
                WHERE,
                commit[:ID_DIGITS],
                allowed="git archive could not extract its files (see above)",
                remedy=f"extract them elsewhere, and name the folder with {WHERE} DIR",
            )
        os.chmod(partial, 0o755)
        # Another gate may have been faster.
        if not place.is_dir():
            partial.rename(place)
            mark_used(place)
    except OSError as error:
        raise InputError(
            WHERE,
            commit[:ID_DIGITS],
            allowed=f"its files cannot be extracted into {place.parent} ({error.strerror})",
            remedy="make room there, or name another cache with XDG_CACHE_HOME",
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def _project(root: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _changes(root: Path) -> str:
    """Return a digest of what differs from the last commit, Python files that git does not know included; or nothing.

    Other files that it does not know, such as new results, change nothing that is measured.
    """
    content = (git(root, "diff", "--binary", "HEAD") or "").encode(errors="surrogateescape")
    for name in (git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", "*.py") or "").split("\0"):
        if (path := root / name).is_file():
            content += name.encode(errors="surrogateescape") + path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:8] if content else ""


def _named(folder: Path) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in folder.name) or "folder"


def git(folder: Path, *arguments: str) -> str | None:
    """Return what git answers; None where it has no answer."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
