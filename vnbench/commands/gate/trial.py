"""One trial asked for by another process: an order as JSON comes in, its record goes out.

So a gate measures two checkouts in turn, each with its own environment: they share no code, only the formats of the
order and of the record.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vnbench.errors import ChildError, InputError
from vnbench.processes.locks import gpu_lock
from vnbench.records.machine_keys import Environment
from vnbench.records.record import TrialRecord
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import probe_environment, run_trial

START_UP_S = 300.0
"""Time that a checkout is given beyond its trial: imports from a cold disk, and looking at the machine twice."""


def run_ordered_trial(order: str) -> str:
    """Run the trial that ``Checkout.run`` ordered and return its record as JSON.

    Raises:
        InputError: the order is none, or its device is not there.
    """
    try:
        values = json.loads(order)
        task, timeout_s = TrialTask.from_json(json.dumps(values["task"])), float(values["timeout_s"])
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s {timeout_s}")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("trial", allowed=f"this is no order ({error!r})", remedy="use vnbench gate --rerun") from error
    environment = probe_environment(task.spec.device)
    with gpu_lock(environment["device_uuid"]):
        return run_trial(task, environment=environment, timeout_s=timeout_s).to_json()


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """A source tree of vnbench with its own environment."""

    directory: Path
    """Its root."""
    python: Path
    """The interpreter of its environment."""

    def environment(self, device: str) -> Environment:
        """Return the environment that its records will have.

        Raises:
            ChildError: it does not tell.
        """
        return cast(Environment, json.loads(self._ask("env", "--device", device, "--json", order="", timeout_s=0.0)))

    def run(self, task: TrialTask, *, timeout_s: float) -> TrialRecord:
        """Run a trial with the code and the environment of this checkout.

        Raises:
            ChildError: no record of this trial came back.
        """
        order = json.dumps({"task": json.loads(task.to_json()), "timeout_s": timeout_s})
        answer = self._ask("trial", order=order, timeout_s=timeout_s)
        try:
            record = TrialRecord.from_json(answer)
        except ValueError as error:
            raise ChildError(f"{self.directory}: what came back is no record ({error})") from error
        if (record.spec, record.replicate) != (task.spec, task.replicate):
            raise ChildError(f"{self.directory}: the record that came back is of another trial")
        return record

    def _ask(self, *arguments: str, order: str, timeout_s: float) -> str:
        # Its own code, however it is installed: the working folder alone does not say so under PYTHONSAFEPATH.
        pythonpath = os.environ.get("PYTHONPATH")
        try:
            done = subprocess.run(
                [str(self.python), "-m", "vnbench", *arguments],
                cwd=self.directory,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(self.directory), pythonpath)))},
                input=order,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s + START_UP_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ChildError(f"{self.directory}: {error}") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ChildError(f"{self.directory}: vnbench {arguments[0]} ended with {done.returncode}: {last}")
        return done.stdout


def find_checkout(directory: Path, *, where: str) -> Checkout:
    """Return the checkout in a folder, with the interpreter of its ``.venv``.

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
    return Checkout(directory=directory.resolve(), python=python)
