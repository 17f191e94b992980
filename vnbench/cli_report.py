"""``vnbench report`` on the command line: its options, and the call that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vnbench.cli_options import AsJson, Heights, Sizes, Text, Widths, print_json


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Results files.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pages and figures.")],
    examples: Annotated[Text, typer.Option(metavar="N", help="Of the run that is planned. [15000]")] = None,
    epochs: Annotated[Text, typer.Option(metavar="N", help="Passes over them. [50]")] = None,
    window: Annotated[Text, typer.Option(metavar="TIME", help="Time that there is. [12h]")] = None,
    interruptions: Annotated[Text, typer.Option(metavar="N", help="So many of them.")] = None,
    memory: Annotated[Text, typer.Option(metavar="SIZE", help="Of the card. [of the one measured]")] = None,
    widths: Widths = None,
    heights: Heights = None,
    sizes: Sizes = None,
    as_json: AsJson = False,
) -> int:
    """Write a report: the answer first, then figures, all trials, and how it was measured."""
    from vnbench.report_command import run_report_command

    given = locals()
    names = ("examples", "epochs", "window", "interruptions", "memory", "widths", "heights", "sizes")
    flags = {name: None if given[name] is None else str(given[name]) for name in names}
    written = run_report_command(results, flags, out=out, as_json=as_json)
    if as_json:
        print_json(written)
    return 0
