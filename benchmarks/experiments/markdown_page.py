"""Names and writing of the report scripts' Markdown pages, each of which ends with the command that makes it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vnbench.records.record import TrialRecord
from vnbench.request.results_folder import results_folder

REPORT_ONLY = "--report-only"
"""Flag of scripts that measure: redraw the page from an earlier run."""


def page_name(theme: str, *, machine: str, date: str) -> str:
    """Return a page's file name without suffix: theme, measured machine, year and month.

    Args:
        theme: subject of the page.
        machine: measured machine.
        date: in ISO 8601, with or without a time of day.
    """
    return f"{theme}_{machine}_{date[:7].replace('-', '')}"


def records_page_name(theme: str, records: Sequence[TrialRecord]) -> str:
    """Return the name of a page drawn from records, with the machine and date of the records."""
    first = records[0]
    return page_name(theme, machine=results_folder(first.environment).name, date=first.started_at)


def write_page(
    blocks: Sequence[str], path: Path, *, script: str, arguments: Sequence[str], before: Sequence[str] = ()
) -> None:
    """Write a Markdown page that ends with the command that makes it, and print its path.

    The flag REPORT_ONLY is left out of that command, because the figures came from a run without it.

    Args:
        blocks: paragraphs, tables and pictures, without the blank lines between them.
        script: file name of the script, as in ``__file__``.
        arguments: command-line arguments of the script.
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
    """Write a script's measurements with their environment as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
