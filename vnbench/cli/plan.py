"""``vnbench plan`` on the command line: its options, and the call that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vnbench.cli.arguments import AsJson, CorpusId, Heights, Seed, SizeLaw, Sizes, Text, Widths, print_json
from vnbench.errors import PlanError


def plan(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULTS...]", help="Results files. [records that ship]")
    ] = None,
    examples: Annotated[Text, typer.Option(metavar="N", help="Training examples of an epoch.")] = None,
    epochs: Annotated[Text, typer.Option(metavar="N", help="Passes over them.")] = None,
    validation: Annotated[Text, typer.Option(metavar="N", help="Examples that each epoch ends with. [0]")] = None,
    batch_size: Annotated[Text, typer.Option(metavar="N,...", help="Examples per step. [the records']")] = None,
    num_workers: Annotated[Text, typer.Option(metavar="N,...", help="Loader workers. [the best measured]")] = None,
    widths: Widths = None,
    heights: Heights = None,
    size_law: SizeLaw = None,
    sizes: Sizes = None,
    memory: Annotated[Text, typer.Option(metavar="SIZE", help="Of the card, as 24GiB. [of the one measured]")] = None,
    device_scale: Annotated[Text, typer.Option(metavar="FACTOR", help="Times as slow as what was measured.")] = None,
    current: Annotated[Text, typer.Option(metavar="AXIS=VALUE,...", help="What changes start from.")] = None,
    hold: Annotated[Text, typer.Option(metavar="AXIS=VALUE,...", help="What every configuration has.")] = None,
    window: Annotated[Text, typer.Option(metavar="TIME", help="Time that there is, as 12h.")] = None,
    interruptions: Annotated[Text, typer.Option(metavar="N", help="So many of them.")] = None,
    mtbi: Annotated[Text, typer.Option(metavar="TIME", help="Or at random, one in so much time.")] = None,
    restart_cost: Annotated[Text, typer.Option(metavar="TIME", help="Until the next step. [5m]")] = None,
    snapshot_cost: Annotated[Text, typer.Option(metavar="TIME", help="Of one snapshot. [2s]")] = None,
    snapshot_interval: Annotated[Text, typer.Option(metavar="TIME", help="Or best, epoch, none. [best]")] = None,
    price_per_hour: Annotated[Text, typer.Option(metavar="AMOUNT", help="Of the machine.")] = None,
    runs: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Several runs, on several cards.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the picture of --runs.")] = None,
    corpus_id: CorpusId = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> int:
    """Say what a run will take, in which configuration, whether it finishes in time, and what to change."""
    from vnbench.commands.plan.plan import run_plan_command
    from vnbench.request.options import PLANNING

    given = locals()
    flags = {name: given[name.replace("-", "_")] for name in PLANNING}
    if runs is not None:
        from vnbench.commands.plan.team import run_team_command
        from vnbench.records.shipped import shipped_results

        sources = results or list(shipped_results())
        team = run_team_command(sources, flags, runs=runs, out=out, corpus_id=corpus_id, as_json=as_json)
        if as_json:
            print_json(team)
        return 0
    try:
        report = run_plan_command(results or [], flags, corpus_id=corpus_id, as_json=as_json)
    except PlanError as error:
        if as_json:
            print_json({"recommended": None, "configurations": [], "warnings": [str(error)]})
        raise
    if as_json:
        print_json(report.to_json())
    return 0
