"""Start the process of a drill, follow what it says, and kill it at a given moment."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vnbench.errors import ChildError
from vnbench.processes.parent import LOG_TAIL_CHARACTERS, SPIN_COUNT
from vnbench.records.drill_task import DrillLine, DrillTask

MODULE = "vnbench.loops.drilled"

CHUNK_BYTES = 65_536

When = Callable[[DrillLine], float | None]
"""Returns the seconds after a line at which to kill the process that said it, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A process of a drill that ended or was killed."""

    started_s: float
    """When it was started, by the system's monotonic clock."""
    ended_s: float
    """When it had ended."""
    lines: tuple[DrillLine, ...]
    """What it said."""
    exit_code: int
    """Its exit code; the negative signal number if a signal ended it."""
    error: str
    """The end of what it wrote to stderr."""


def follow(task: DrillTask, *, when: When, timeout_s: float) -> Ended:
    """Run a process to its end, or until it is killed, and return what it said.

    ``when`` gets each line. Loader workers belong to the process's group and end with it, however this function ends.

    Raises:
        ChildError: it says nothing for ``timeout_s`` seconds.
    """
    folder = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    environment = {"GOMP_SPINCOUNT": SPIN_COUNT} | os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile() as log:
        started_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, task.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            lines = _lines_until_killed(process.stdout, process, when=when, timeout_s=timeout_s)
        finally:
            _kill(process)
            process.stdout.close()
            exit_code = process.wait()
        log.seek(0)
        return Ended(
            started_s=started_s,
            ended_s=time.monotonic(),
            lines=lines,
            exit_code=exit_code,
            error=log.read().decode(errors="replace")[-LOG_TAIL_CHARACTERS:].strip(),
        )


def _lines_until_killed(
    stdout: IO[bytes],
    process: subprocess.Popen[bytes],
    *,
    when: When,
    timeout_s: float,
) -> tuple[DrillLine, ...]:
    lines: list[DrillLine] = []
    kill_at_s: float | None = None
    rest = b""
    while True:
        left_s = timeout_s if kill_at_s is None else kill_at_s - time.monotonic()
        if left_s <= 0 or not select.select([stdout], [], [], left_s)[0]:
            if kill_at_s is None:
                raise ChildError(f"the process of the drill said nothing for {timeout_s:g} s")
            _kill(process)
            kill_at_s = time.monotonic() + timeout_s  # what it said before is still in the pipe
            continue
        chunk = os.read(stdout.fileno(), CHUNK_BYTES)
        if not chunk:
            process.wait()
            return tuple(lines)
        *whole, rest = (rest + chunk).split(b"\n")
        for text in whole:
            with contextlib.suppress(ValueError):  # a network of the user's own may print
                line = DrillLine.from_text(text.decode(errors="replace"))
                lines.append(line)
                if kill_at_s is None and (delay_s := when(line)) is not None:
                    kill_at_s = line.at_s + delay_s


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its loader workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
