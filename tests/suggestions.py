"""Commands in what vnbench says, parsed as a shell and the command line would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

import typer

from vnbench.cli.app import app
from vnbench.request.options import OPTIONS, SWITCHES
from vnbench.request.reading import Request, read_request


def commands_in(lines: Iterable[str]) -> list[str]:
    """Return the commands that some lines suggest: after a colon, to the end of the line."""
    return [found.group(1) for line in lines if (found := re.search(r": (vnbench \S.*)$", line))]


def pasted(command: str) -> dict[str, Any]:
    """Return the values of the options of a command, by parameter, as its parser takes them."""
    program, name, *words = shlex.split(command)
    assert program == "vnbench"
    with typer.main.get_command(app).commands[name].make_context(name, words) as context:  # type: ignore[attr-defined]
        values: dict[str, Any] = context.params
    return values


def pasted_sweep(command: str) -> Request:
    """Return the request that a sweep's command makes; every value is parsed, and every needed one has to be there."""
    values = pasted(command)
    flags = {name: values[name.replace("-", "_")] for name in OPTIONS}
    flags |= {name: "yes" if flags[name] else None for name in SWITCHES}
    return read_request(flags, config_path=values["config"])
