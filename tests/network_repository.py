"""A git repository of a network in a folder, of two commits, for tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


NETWORK = """\
from torch import nn


def build(*, num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, num_classes, 1))
"""


def make_repository(folder: Path, *, edit: Callable[[str], str] = lambda text: text.replace("4", "5")) -> Path:
    """Return a repository whose network was edited in the second commit; the first one is tagged ``first``."""
    (folder / "nets").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", ".")
    (folder / "nets" / "net.py").write_text(NETWORK)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "first")
    (folder / "nets" / "net.py").write_text(edit(NETWORK))
    git(folder, "commit", "-q", "-a", "-m", "two")
    return folder
