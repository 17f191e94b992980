"""One trial asked for by another process: an order as JSON comes in, its record goes out.

So a gate measures two checkouts in turn, each with its own environment: they share no code, only the formats of the
order and of the record.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

from vnbench.commands.gate.worker import Home
from vnbench.errors import InputError
from vnbench.processes.locks import gpu_lock
from vnbench.records.machine_keys import Environment
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import probe_environment, run_trial


def run_ordered_trial(order: str) -> str:
    """Run the trial that ``Worker.run`` ordered and return its record as JSON.

    Raises:
        InputError: the order is none, or its device is not there.
    """
    try:
        values = json.loads(order)
        task, timeout_s = TrialTask.from_json(json.dumps(values["task"])), float(values["timeout_s"])
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s {timeout_s}")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            "trial", allowed=f"this is no order ({error!r})", remedy="use vnbench gate --against"
        ) from error
    environment = _environment(task.spec.device)
    with gpu_lock(environment["device_uuid"]):
        return run_trial(task, environment=environment, timeout_s=timeout_s).to_json()


@functools.cache
def _environment(device: str) -> Environment:
    """Return what this process runs on, which it asks once: a side runs hundreds of trials in one process."""
    return probe_environment(device)


def find_checkout(directory: Path, *, where: str) -> Home:
    """Return where a checkout of vnbench runs: in its folder, with the interpreter of its ``.venv``.

    Raises:
        InputError: there is no vnbench in it, or no environment.
    """
    if not (directory / "vnbench" / "__main__.py").is_file():
        raise InputError(
            where,
            directory,
            allowed="there is no checkout of vnbench in it",
            remedy="name the root of one, as git worktree add makes it",
        )
    python = directory.resolve() / ".venv" / "bin" / "python"
    if not python.exists():
        raise InputError(
            where,
            directory,
            allowed="it has no environment of its own",
            remedy=f"run python3 -m venv {directory}/.venv && {directory}/.venv/bin/pip install -e {directory}",
        )
    return Home(python=python, source=directory.resolve(), folder=directory.resolve())
