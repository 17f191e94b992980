"""``vnbench plot`` and ``vnbench report`` on the command line: their options, and the calls that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vnbench.cli.arguments import AsJson, CorpusId, Heights, Sizes, Text, Widths, print_json

Results = Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Results files.")]
Examples = Annotated[Text, typer.Option(metavar="N", help="Of the run that is planned. [15000]")]
Epochs = Annotated[Text, typer.Option(metavar="N", help="Passes over them. [50]")]
Window = Annotated[Text, typer.Option(metavar="TIME", help="Time that there is. [12h]")]
Interruptions = Annotated[Text, typer.Option(metavar="N", help="So many of them.")]
Memory = Annotated[Text, typer.Option(metavar="SIZE", help="Of the card. [of the one measured]")]
Profiles = Annotated[
    list[Path] | None, typer.Option("--profile", metavar="DIR", help="Folder of vnbench profile, or a file of it.")
]


def plot(
    results: Results,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures.")],
    examples: Examples = None,
    epochs: Epochs = None,
    window: Window = None,
    interruptions: Interruptions = None,
    memory: Memory = None,
    widths: Widths = None,
    heights: Heights = None,
    sizes: Sizes = None,
    profile: Profiles = None,
    corpus_id: CorpusId = None,
    as_json: AsJson = False,
) -> int:
    """Draw the capacity plots of results files, those of a planned run among them."""
    from vnbench.commands.report.plot import RUN_FLAGS, run_plot_command

    given = locals()
    flags = {name: given[name] for name in RUN_FLAGS}
    drawn = run_plot_command(results, flags, out=out, profiles=profile or (), corpus_id=corpus_id, as_json=as_json)
    if as_json:
        print_json(drawn)
    return 0


def report(
    results: Results,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pages and figures.")],
    examples: Examples = None,
    epochs: Epochs = None,
    window: Window = None,
    interruptions: Interruptions = None,
    memory: Memory = None,
    widths: Widths = None,
    heights: Heights = None,
    sizes: Sizes = None,
    profile: Profiles = None,
    corpus_id: CorpusId = None,
    as_json: AsJson = False,
) -> int:
    """Write a report: the answer first, then figures, all trials, and how it was measured."""
    from vnbench.commands.report.plot import RUN_FLAGS
    from vnbench.commands.report.report import run_report_command

    given = locals()
    flags = {name: given[name] for name in RUN_FLAGS}
    written = run_report_command(results, flags, out=out, profiles=profile or (), corpus_id=corpus_id, as_json=as_json)
    if as_json:
        print_json(written)
    return 0
