"""``vnbench plan`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vnbench.cli.arguments import FILE, Command, as_json, corpus_id, print_json, taken, texts_of
from vnbench.errors import PlanError
from vnbench.request.options import RUN_OPTIONS


@click.command(
    "plan", cls=Command, short_help="Say what a run will take, and what to change.", params=taken(RUN_OPTIONS)
)
@click.argument("results", metavar="[RESULTS...]", nargs=-1, type=FILE)
@click.option("--runs", metavar="FILE.toml", type=FILE, help="Several runs, on several cards.")
@click.option("--out", metavar="DIR", type=FILE, help="Folder for the picture of --runs.")
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
    """Say what a run will take, in which configuration, whether it finishes in time, and what to change.

    RESULTS are results files, or folders of them; without any, the records that ship are taken.
    """
    from vnbench.commands.plan.plan import run_plan_command

    texts = texts_of(RUN_OPTIONS, given)
    if runs is not None:
        from vnbench.commands.plan.team import run_team_command
        from vnbench.records.shipped import shipped_results

        sources = list(results) or list(shipped_results())
        team = run_team_command(sources, texts, runs=runs, out=out, corpus_id=corpus_id, as_json=as_json)
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
