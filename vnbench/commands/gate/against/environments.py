"""The interpreter of each side. Sides that need the same packages share one, each with its own source first."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vnbench.commands.gate.against.kept import ENVIRONMENTS, mark_used, place_of
from vnbench.commands.gate.against.revisions import WHERE, Tree
from vnbench.commands.gate.worker import Home
from vnbench.errors import InputError


def homes_of(
    baseline: Tree, candidate: Tree, *, tell: Callable[[str], None], is_dry_run: bool = False
) -> tuple[Home, Home]:
    """Return where both sides' commands run; in a dry run, where they would.

    Where the working folder is vnbench itself, each side runs its own source. Otherwise the installed vnbench runs
    both, each in its own tree, and only the user's network differs.

    Raises:
        InputError: a side cannot be installed.
    """
    if not candidate.is_vnbench:
        installed = Path(__file__).parents[4]
        source = None if installed.name == "site-packages" else installed
        python = Path(sys.executable)
        return (
            Home(python=python, source=source, folder=baseline.folder),
            Home(python=python, source=source, folder=candidate.folder),
        )
    if not (baseline.root / "vnbench" / "__main__.py").is_file():
        raise InputError(
            WHERE,
            baseline.told,
            allowed="it holds no source tree of vnbench, which the working folder is",
            remedy="name a revision or a checkout of vnbench",
        )
    python = _own(candidate) or Path(sys.executable)
    theirs = _own(baseline)
    if theirs is None:
        is_alike = baseline.requirements == candidate.requirements
        theirs = python if is_alike else _installed(baseline, python, tell=tell, is_dry_run=is_dry_run)
    return (
        Home(python=theirs, source=baseline.root, folder=baseline.folder),
        Home(python=python, source=candidate.root, folder=candidate.folder),
    )


def _own(tree: Tree) -> Path | None:
    """Return the interpreter of a tree's own environment; None without one."""
    python = tree.root / ".venv" / "bin" / "python"
    return python if python.exists() else None


def _installed(tree: Tree, python: Path, *, tell: Callable[[str], None], is_dry_run: bool) -> Path:
    """Return the interpreter of an environment with what a tree needs, in the user's cache; made where it is not there.

    It shares the packages of ``python``, and has of its own only what they lack: both sides have the same torch where
    both may.

    Raises:
        InputError: it cannot be made.
    """
    key = hashlib.sha256("\n".join([str(python), *tree.requirements]).encode()).hexdigest()[:12]
    place = place_of(ENVIRONMENTS) / key
    own = place / "bin" / "python"
    is_whole = place / "whole"
    if is_whole.exists():
        if not is_dry_run:
            mark_used(place)
        return own
    needs = "the baseline needs other packages than the working folder"
    if is_dry_run:
        tell(f"{needs}: what is missing would be installed into {place}")
        return own
    tell(f"{needs}: installing what is missing into {place}")
    try:
        shutil.rmtree(place, ignore_errors=True)
        _run([python, "-m", "venv", place])
        shared = [Path(line) for line in _run([python, "-c", PACKAGES]).splitlines()]
        (mine,) = (Path(line) for line in _run([own, "-c", PACKAGES]).splitlines())
        (mine / "shared.pth").write_text("".join(f"{one}\n" for one in shared), encoding="utf-8")
        _run([own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *tree.requirements])
        is_whole.touch()
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(error) if isinstance(error, OSError) else (error.stderr or error.stdout or "no message")
        raise InputError(
            WHERE,
            tree.told,
            allowed=f"what it needs cannot be installed ({said.strip().splitlines()[-1]})",
            remedy="install it into .venv of a checkout of it, and name that folder",
        ) from error
    return own


PACKAGES = "import sys; print(*(one for one in sys.path if one.endswith('-packages')), sep='\\n')"
"""Prints the folders that an interpreter imports packages from."""


def _run(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True)
    return done.stdout
