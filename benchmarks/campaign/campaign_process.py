"""One step of a campaign as a process: its command line, its time, its answer and its end."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from campaign_order import GRACE_S
from campaign_steps import Outcome, Step

START_S = 5.0
"""Seconds that a sweep needs before its clock starts and after it stops."""

OVERRUN = 0.06
"""Share of its budget by which a sweep lets a trial overrun before it ends the trial."""

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl for the signal that a process gets when its parent ends."""


def command_of(text: str, folders: Mapping[str, str], *, budget_s: float) -> list[str]:
    """Return the words of a command line for this Python; a sweep gets its time budget and its output options."""
    words = shlex.split(text.format(**folders))
    if words[0] == "vnbench":
        if is_sweep(words):
            words += ["--time-budget", f"{budget_s:.0f}s", "--no-plots", "--json"]
        return [sys.executable, "-m", "vnbench", *words[1:]]
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def is_sweep(words: Sequence[str]) -> bool:
    """Return whether a command line is that of a sweep."""
    return list(words[:2]) == ["vnbench", "sweep"]


def budget_of(limit_s: float) -> float:
    """Return the time budget in seconds for a sweep that must end within ``limit_s``."""
    return max((limit_s - START_S) / (1 + OVERRUN), 10.0)


def environment() -> dict[str, str]:
    """Return the environment of a step, in which this script's checkout comes first, installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


def report_of(path: Path) -> dict[str, Any]:
    """Return the answer of a sweep; empty if it was ended before."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def run_step(step: Step, folders: Mapping[str, str], *, limit_s: float, log: Path) -> Outcome:
    """Run a step and return its outcome. Out of time, the step is interrupted as by Ctrl-C, then killed if needed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = command_of(step.command, folders, budget_s=budget_of(limit_s))
    answer = log.with_suffix(".json")
    start = time.monotonic()
    is_cut_short = False
    answers = is_sweep(shlex.split(step.command))
    with log.open("w", encoding="utf-8") as said, answer.open("w") if answers else nullcontext(said) as answered:
        process = subprocess.Popen(
            command,
            stdout=answered,
            stderr=said,
            start_new_session=True,
            env=environment(),
            preexec_fn=heed_interrupts,
        )
        try:
            process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            is_cut_short = True
            end(process)
        except KeyboardInterrupt:
            end(process)
            raise
    report = report_of(answer) if answers else {}
    return Outcome(
        exit_code=process.returncode,
        seconds=time.monotonic() - start,
        is_cut_short=is_cut_short,
        statuses=report.get("statuses", {}),
        num_left=report.get("num_not_started", 0),
    )


def heed_interrupts() -> None:
    """Make this process, a step before its start, accept interrupts, and get one when the campaign ends."""
    # If a shell runs the campaign in the background, the campaign and its children ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it started, by an interrupt if it accepts one."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
