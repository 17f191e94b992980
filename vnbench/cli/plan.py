"""``vnbench plan`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vnbench.cli.arguments import FILE, Command, as_json, corpus_id, print_json, taken, texts_of
from vnbench.errors import PlanError
from vnbench.request.options import RUN_OPTIONS


@click.command(
    "plan",
    cls=Command,
    short_help="Tell how long a run takes, and what would shorten it.",
    params=taken(RUN_OPTIONS, first=("examples", "epochs", "window", "batch-size", "memory", "widths", "heights")),
    examples=(
        "vnbench plan --examples 15000 --epochs 50 --window 12h",
        "vnbench plan results/sweep.jsonl --examples 4000 --epochs 100 --batch-size 16 --memory 24GiB",
    ),
)
@click.argument("results", metavar="[RESULTS...]", nargs=-1, type=FILE)
@click.option("--runs", metavar="FILE.toml", type=FILE, help="Plan several runs on several GPUs, as a file lists them.")
@click.option("--out", metavar="DIR", type=FILE, help="Folder for the figure of --runs.")
@corpus_id
@as_json
def plan(
    *,
    results: tuple[Path, ...],
    runs: Path | None,
    out: Path | None,
    corpus_id: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Tell how long a run takes, in which configuration, whether it ends in time, and what to change.

    RESULTS are results files, or folders of them; without any, the plan is made from the records that ship.
    """
    from vnbench.commands.plan.plan import run_plan_command

    texts = texts_of(RUN_OPTIONS, given)
    if runs is not None:
        from vnbench.commands.plan.team import run_team_command

        team = run_team_command(results, texts, runs=runs, out=out, corpus_id=corpus_id, as_json=as_json)
        if as_json:
            print_json(team)
        return 0
    try:
        report = run_plan_command(list(results), texts, corpus_id=corpus_id, as_json=as_json)
    except PlanError as error:
        if as_json:
            print_json({"recommended": None, "configurations": [], "warnings": [str(error)]})
        raise
    if as_json:
        print_json(report.to_json())
    return 0
