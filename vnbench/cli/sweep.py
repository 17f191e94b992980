"""``vnbench sweep`` on the command line."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from vnbench.cli.arguments import FILE, Command, as_json, print_json, taken, texts_of
from vnbench.request.options import OPTIONS


@click.command(
    "sweep", cls=Command, short_help="Measure step time, peak memory and padding by levers.", params=taken(OPTIONS)
)
@click.option(
    "--config",
    metavar="FILE.toml",
    type=FILE,
    help="Options in a file, its paths as seen from here; those given here win.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be measured; write nothing.")
@as_json
def sweep(*, config: Path | None, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Measure step time, worst-case peak memory and padding waste over batch, precision and other levers."""
    from vnbench.processes.parent import start_server
    from vnbench.request.reading import read_request

    # A sweep that is told to end (a scheduler's SIGTERM) ends as it does on Ctrl-C: its finished trials are kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    request = read_request(texts_of(OPTIONS, given), config_path=config)
    click.echo("Starting torch and looking at this machine: this takes some seconds.", err=True)
    start_server()  # which imports torch meanwhile

    from vnbench.commands.sweep.sweep import run_sweep_command

    report = run_sweep_command(request, dry_run=dry_run, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code
