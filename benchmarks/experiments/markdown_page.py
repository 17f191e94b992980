"""What the pages of all report scripts share: their names, the command that makes them, and how they are written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vnbench.records.record import TrialRecord
from vnbench.request.results_folder import results_folder

REPORT_ONLY = "--report-only"
"""Flag of scripts that measure: draw the page anew from what an earlier run measured."""


def page_name(theme: str, *, machine: str, date: str) -> str:
    """Return a page's file name without its ending: its theme, the machine that was measured, year and month.

    Args:
        date: as ISO 8601 writes it, with or without a time of day.
    """
    return f"{theme}_{machine}_{date[:7].replace('-', '')}"


def records_page_name(theme: str, records: Sequence[TrialRecord]) -> str:
    """Return the name of a page drawn from records, which say where and when they were measured."""
    first = records[0]
    return page_name(theme, machine=results_folder(first.environment).name, date=first.started_at)


def write_page(
    blocks: Sequence[str], path: Path, *, script: str, arguments: Sequence[str], before: Sequence[str] = ()
) -> None:
    """Write a Markdown page that ends with the command that makes it, and print where it lies.

    The flag REPORT_ONLY is left out of that command: the figures came from the command without it, whenever it ran.

    Args:
        blocks: paragraphs, tables and pictures, without the blank lines between them.
        script: file name of the script, as ``__file__`` tells it.
        arguments: what the script was called with.
        before: commands to run before it.
    """
    own = shlex.join(
        ["python", f"benchmarks/experiments/{Path(script).name}", *(one for one in arguments if one != REPORT_ONLY)]
    )
    commands = "\n".join([*before, own])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join([*blocks, "Made by:", f"```bash\n{commands}\n```"]) + "\n", encoding="utf-8")
    print(path)


def write_document(document: dict[str, Any], path: Path) -> None:
    """Write what a script measured, with its environment, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
