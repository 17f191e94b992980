"""The records that ship with the project."""

from __future__ import annotations

from pathlib import Path

from vnbench.errors import PlanError

RESULTS = Path(__file__).parents[1] / "shipped"
"""In a source tree the folder results/, of which an installation has the files named below."""

PREFERRED = ("wallclock.jsonl", "default_axes.jsonl")
"""Campaigns that time computing and loading apart, the best first."""


def shipped_results() -> tuple[Path, ...]:
    """Return the results files to plan from where none is named: those of a GPU before those of a CPU.

    Raises:
        PlanError: this installation has none.
    """
    root = RESULTS.resolve()
    folders = sorted(root.iterdir(), key=lambda path: (path.name.startswith("cpu"), path.name)) if root.is_dir() else []
    for folder in folders:
        for name in PREFERRED:
            if (folder / name).is_file():
                return (folder / name,)
    raise PlanError("no RESULTS given, and this installation has no records; name a results file")
