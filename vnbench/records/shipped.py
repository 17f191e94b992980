"""Find the records that ship with vnbench."""

from __future__ import annotations

from pathlib import Path

from vnbench.errors import PlanError

RESULTS = Path(__file__).parents[1] / "shipped"
"""Folder of the shipped records: results/ in a source tree; an installation has only the files named below."""

PREFERRED = ("wallclock.jsonl", "default_axes.jsonl")
"""Results files that time computing and loading separately, the best first."""


def shipped_results() -> tuple[Path, ...]:
    """Return the results files to plan from by default; files of a GPU come before those of a CPU.

    Raises:
        PlanError: this installation has no records.
    """
    root = RESULTS.resolve()
    folders = sorted(root.iterdir(), key=lambda path: (path.name.startswith("cpu"), path.name)) if root.is_dir() else []
    for folder in folders:
        for name in PREFERRED:
            if (folder / name).is_file():
                return (folder / name,)
    raise PlanError("no RESULTS given, and this installation has no records; name a results file")
