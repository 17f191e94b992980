"""Whether the framework that a sweep asks for is installed, found out without importing it."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version

from vnbench.errors import InputError
from vnbench.records.spec.words import Loop

PACKAGE = "lightning"
"""Package of the Trainer and of Fabric."""

INSTALL = "pip install 'vnbench[lightning]'"
"""The command that installs it."""

POISONED = ("2.6.2", "2.6.3")
"""Releases that stole credentials when they were imported (GHSA-w37p-236h-pfx3)."""


def check_loops(loops: Collection[Loop]) -> None:
    """Raise an InputError if a loop needs a framework that is not installed, or a release of it that is malware."""
    needing = [loop for loop in loops if loop != "own"]
    if not needing:
        return
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        raise InputError(
            "--loop", needing[0], allowed=f"{PACKAGE} is not installed", remedy=f"{INSTALL}, or write --loop own"
        ) from None
    if installed in POISONED:
        raise InputError(
            "--loop",
            needing[0],
            allowed=f"{PACKAGE} {installed} is malware: it steals credentials when it is imported",
            remedy=f"uninstall it, change your passwords and tokens, then {INSTALL}",
        )
