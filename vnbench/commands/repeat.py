"""``vnbench repeat``: one training run in several fresh processes, compared to the bit after every step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vnbench.analysis.trials.repeats import RepeatReport, compare_runs
from vnbench.commands.one_run import prepare_run
from vnbench.errors import ChildError
from vnbench.output.console import say, stderr_console, tell
from vnbench.output.words.repeats import repeat_lines
from vnbench.processes.locks import gpu_lock
from vnbench.processes.parent import PRELOAD, run_child
from vnbench.request.option import parsed, with_defaults
from vnbench.request.options import REPEAT_OPTIONS
from vnbench.sweep.runner import failure_of

REPEAT_ENTRY = "vnbench.loops.repeated:run"

TIMEOUT_S = 3600.0


def run_repeat_command(flags: Mapping[str, str | None], *, as_json: bool) -> RepeatReport:
    """Train the same steps in several processes, and tell what differs first.

    Raises:
        InputError: an option cannot be used.
        ChildError: a run failed.
    """
    console = stderr_console()
    values = parsed(REPEAT_OPTIONS, with_defaults(REPEAT_OPTIONS, flags))
    one = prepare_run(flags, console=console)
    payload = json.dumps({"task": one.task.to_json(), "num_steps": values["steps"]})
    runs = []
    with gpu_lock(one.environment["device_uuid"]):
        for number in range(1, values["runs"] + 1):
            say(console, f"[{number}/{values['runs']}] {values['steps']} steps in a process of its own")
            runs.append(_steps(payload))
    report = compare_runs(runs)
    if not as_json:
        tell(repeat_lines(report, threads=one.environment["num_threads"]))
    return report


def _steps(payload: str) -> list[dict[str, Any]]:
    outcome = run_child(REPEAT_ENTRY, payload, timeout_s=TIMEOUT_S, preload=(*PRELOAD, "vnbench.loops.repeated"))
    if outcome.answer is None:
        _, cause = failure_of(outcome, timeout_s=TIMEOUT_S, has_memory_limit=False)
        raise ChildError(f"a run gave no answer: {cause.message}")
    answer: dict[str, Any] = json.loads(outcome.answer)
    if "problem" in answer:
        raise ChildError(f"a run failed: {answer['problem']}")
    steps: list[dict[str, Any]] = answer["steps"]
    return steps
