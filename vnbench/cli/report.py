"""``vnbench plot``, ``report`` and ``export`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vnbench.cli.arguments import FILE, Command, as_json, corpus_id, print_json, profiles, results, taken, texts_of
from vnbench.request.options import DRAWN_RUN_OPTIONS


@click.command(
    "plot",
    cls=Command,
    short_help="Draw the figures of results files.",
    params=taken(DRAWN_RUN_OPTIONS),
    examples=(
        "vnbench plot results/sweep.jsonl --out figures",
        "vnbench plot results/sweep.jsonl --out figures --examples 4000 --epochs 100",
    ),
)
@results
@click.option("--out", metavar="DIR", required=True, type=FILE, help="Folder for the figures.")
@profiles
@corpus_id
@as_json
def plot(
    *,
    results: tuple[Path, ...],
    out: Path,
    profiles: tuple[Path, ...],
    corpus_id: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Draw the figures of results files, and those of a planned run."""
    from vnbench.commands.report.plot import run_plot_command

    texts = texts_of(DRAWN_RUN_OPTIONS, given)
    drawn = run_plot_command(results, texts, out=out, profiles=profiles, corpus_id=corpus_id, as_json=as_json)
    if as_json:
        print_json(drawn)
    return 0


@click.command(
    "report",
    cls=Command,
    short_help="Write a report: answer, figures, planner, all trials.",
    params=taken(DRAWN_RUN_OPTIONS),
    examples=(
        "vnbench report results/sweep.jsonl --out report",
        "vnbench report results/sweep.jsonl --out report --examples 4000 --epochs 100 --window 8h",
    ),
)
@results
@click.option("--out", metavar="DIR", required=True, type=FILE, help="Folder for the pages and figures.")
@profiles
@corpus_id
@as_json
def report(
    *,
    results: tuple[Path, ...],
    out: Path,
    profiles: tuple[Path, ...],
    corpus_id: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Write a report: the answer first, then figures, all trials, and how it was measured."""
    from vnbench.commands.report.report import run_report_command

    texts = texts_of(DRAWN_RUN_OPTIONS, given)
    written = run_report_command(results, texts, out=out, profiles=profiles, corpus_id=corpus_id, as_json=as_json)
    if as_json:
        print_json(written)
    return 0


@click.command(
    "export",
    cls=Command,
    short_help="Write results as tables for other programs.",
    params=taken(DRAWN_RUN_OPTIONS),
    examples=(
        "vnbench export results/sweep.jsonl --out trials.csv",
        "vnbench export results/sweep.jsonl --what steps --format json --out steps.json",
    ),
)
@results
@click.option("--what", metavar="NAME", default="trials", help="Rows: trials, steps, canvases or plan. [trials]")
@click.option(
    "--format",
    "file_format",
    metavar="NAME",
    default="csv",
    help="Format: csv, json, or parquet (needs pyarrow). [csv]",
)
@click.option("--out", metavar="FILE", type=FILE, help="File to write. [stdout]")
@corpus_id
def export(
    *,
    results: tuple[Path, ...],
    what: str,
    file_format: str,
    out: Path | None,
    corpus_id: str | None,
    **given: Any,
) -> int:
    """Write what results files hold as a tidy table: a row per trial, step, canvas or planned configuration.

    RESULTS are results files, or folders of them.
    """
    from vnbench.commands.export import run_export_command

    texts = texts_of(DRAWN_RUN_OPTIONS, given)
    run_export_command(results, texts, what=what, file_format=file_format, out=out, corpus_id=corpus_id)
    return 0
