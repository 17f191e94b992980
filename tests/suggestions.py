"""Commands in what vnbench says, parsed as a shell and the command line would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Any

from vnbench.cli.app import app
from vnbench.cli.arguments import texts_of
from vnbench.request.options import OPTIONS
from vnbench.request.reading import Request, read_request


def commands_in(lines: Iterable[str]) -> list[str]:
    """Return the commands that some lines suggest: after a colon, to the end of the line."""
    return [found.group(1) for line in lines if (found := re.search(r": (vnbench \S.*)$", line))]


def pasted(command: str) -> dict[str, Any]:
    """Return the values of the options of a command, by parameter, as its parser takes them."""
    program, name, *words = shlex.split(command)
    assert program == "vnbench"
    with app.commands[name].make_context(name, words) as context:
        values: dict[str, Any] = context.params
    return values


def pasted_sweep(command: str) -> Request:
    """Return the request that a sweep's command makes; every value is parsed, and every needed one has to be there."""
    values = pasted(command)
    return read_request(texts_of(OPTIONS, values), config_path=values["config"])
