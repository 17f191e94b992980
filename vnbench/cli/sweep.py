"""``vnbench sweep`` on the command line."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from vnbench.cli.arguments import FILE, Command, as_json, print_json, taken, texts_of
from vnbench.request.option import Option, yes
from vnbench.request.options import OPTIONS

DRY_RUN = Option(
    name="dry-run",
    parse=yes,
    metavar="",
    help="Show what would be measured and how long it would take; write nothing",
)

STARTING = "Starting torch and looking at this machine: this takes some seconds."
"""What stands on stderr until the first measured fact does."""

NEEDED_FIRST = ("widths", "images", "model", "batch-size", "precision", "time-budget", "out", DRY_RUN.name)
"""What most people set first."""


@click.command(
    "sweep",
    cls=Command,
    short_help="Measure step time, peak memory and padding of training.",
    params=taken({**OPTIONS, DRY_RUN.name: DRY_RUN}, first=NEEDED_FIRST),
    examples=(
        "vnbench sweep --widths 3200:12800 --dry-run",
        "vnbench sweep --images scans --precision fp32,bf16 --time-budget 10m",
    ),
)
@click.option("--config", metavar="FILE.toml", type=FILE, help="Read options from a file; those given here win.")
@as_json
def sweep(*, config: Path | None, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Measure step time, worst-case memory and padding of training, for each choice of batch, precision and more."""
    from vnbench.processes.interrupts import Interrupts
    from vnbench.processes.parent import start_server
    from vnbench.request.reading import check_folders, read_request

    # A sweep that is told to end (a scheduler's SIGTERM) ends as it does on Ctrl-C: its finished trials are kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    request = read_request(texts_of(OPTIONS, given), config_path=config)
    check_folders(request)
    click.echo(STARTING, err=True)
    start_server()  # which imports torch meanwhile

    from vnbench.commands.sweep.sweep import run_sweep_command

    if interrupts := click.get_current_context().find_object(Interrupts):
        interrupts.check()
    report = run_sweep_command(request, dry_run=dry_run, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code
