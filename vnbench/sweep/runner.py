"""The parent's side of one trial in its own process: a task in, a record out, even if the process fails."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from vnbench.errors import ChildError, InputError
from vnbench.processes.failure import keep_details
from vnbench.processes.parent import ChildOutcome, run_child
from vnbench.records.machine_keys import Environment
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.records.task import TrialTask
from vnbench.sweep.disturbances import find_disturbances
from vnbench.sweep.telemetry import MachineWatch
from vnbench.units import count, format_duration

TRIAL_ENTRY = "vnbench.trial.entry:run"
ENTRIES: Mapping[TrialKind, str] = {"snapshot": "vnbench.loops.snapshot_trial:run"}
"""Entries of kinds that need more than a trial does."""
TRACES_ENTRY = "vnbench.trial.entry:run_all"
CONVOLUTIONS_ENTRY = "vnbench.trial.kinds.probe:convolution_times"
PROBE_ENTRY = "vnbench.trial.instruments.environment:probe"
MODEL_CHECK_ENTRY = "vnbench.trial.checks.own_network:run"

PROBE_TIMEOUT_S = 180.0
"""A first import of torch from a cold disk takes tens of seconds; beyond this limit the installation is broken."""


NO_MEMORY_TEXTS = (
    "std::bad_alloc",
    "Cannot allocate memory",
    "DefaultCPUAllocator: ",
    "out of memory",
    "libgomp: Thread creation failed",
)
"""Last words of processes that died of a failed allocation without raising an exception."""


DEATHS_BY_LIMIT = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
"""Exit codes of a process that uses memory whose allocation failed, as oneDNN was seen to do."""


def probe_environment(device: str) -> Environment:
    """Return the environment on a device (auto, cuda or cpu), from a child process.

    Raises:
        InputError: CUDA is asked for and there is none.
        ChildError: the child did not answer, for example because torch cannot be imported.
    """
    outcome = run_child(PROBE_ENTRY, device, timeout_s=PROBE_TIMEOUT_S)
    if outcome.answer is None:
        raise ChildError(f"the machine could not be examined: {_last_words(outcome)}")
    found = json.loads(outcome.answer)
    if "error" in found:
        raise InputError(
            "--device", device, allowed=found["error"], remedy="write --device cpu, or run on a machine with CUDA"
        )
    return cast(Environment, found)


def time_convolutions(environment: Environment) -> dict[str, float]:
    """Return the seconds of one convolution by precision: all precisions on a CPU, the native ones on a GPU.

    The result is empty if the child does not answer.
    """
    precisions = environment.get("native_precisions") or []
    if environment["device_type"] == "cpu":
        precisions = [name for name, one in PRECISIONS.items() if not one.is_cuda_only]
    order = json.dumps({"device": environment["device_type"], "precisions": precisions})
    outcome = run_child(CONVOLUTIONS_ENTRY, order, timeout_s=PROBE_TIMEOUT_S)
    found: dict[str, float] = json.loads(outcome.answer or b"{}")
    return found


def check_own_models(specs: Iterable[TrialSpec]) -> None:
    """Run a user's own network on a small canvas in a child process before hours are spent on it.

    Raises:
        InputError: the network does not run, does not return logits, or is not exact where it claims to be.
        ChildError: the child did not answer.
    """
    # A network that takes checkpointing as a parameter may support only stages.
    tried = {
        (" --padding exact" if spec.padding == "exact" else "")
        + (" --checkpointing selective" if spec.checkpointing == "selective" else "")
        + (" --cuda-graphs on" if spec.cuda_graphs == "on" else ""): spec
        for spec in specs
        if spec.model_id is not None
    }
    for options, spec in tried.items():
        outcome = run_child(MODEL_CHECK_ENTRY, json.dumps(spec.flat()), timeout_s=PROBE_TIMEOUT_S)
        if outcome.answer is None:
            raise ChildError(f"{spec.model} could not be tried: {_last_words(outcome)}")
        answer = json.loads(outcome.answer)
        if answer["problem"] is not None:
            raise InputError(
                "--model",
                f"{spec.model}{options}",
                allowed=answer["problem"],
                remedy=answer["remedy"],
            )


def run_trial(task: TrialTask, *, environment: Environment, timeout_s: float, entry: str | None = None) -> TrialRecord:
    """Run a trial in a fresh process and return its record, with telemetry of the machine from outside.

    ``environment`` is used in the record if the child died before it described its own. ``entry`` is the child's
    function, by default that of its kind. The measured span in the child's record is in seconds of
    ``time.monotonic()``; in the returned record it is in seconds from the start of the process.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start_s = time.monotonic()
    with MachineWatch(device_uuid=environment.get("device_uuid")) as watch:
        entry = entry or ENTRIES.get(task.spec.kind, TRIAL_ENTRY)
        outcome = run_child(entry, task.to_json(), timeout_s=timeout_s)
    record = None if outcome.answer is None else _record_for(task, outcome.answer)
    if record is None:
        record = _failed(task, outcome, environment=environment, started_at=started_at, timeout_s=timeout_s)
    span = record.measured_span_s
    telemetry = watch.telemetry(span)
    return replace(
        record,
        environment=record.environment or environment,
        started_at=started_at,
        elapsed_s=outcome.elapsed_s,
        measured_span_s=None if span is None else (span[0] - start_s, span[1] - start_s),
        telemetry=telemetry,
        warnings=(*record.warnings, *find_disturbances(telemetry, kind=task.spec.kind)),
    )


def run_traces(
    tasks: Sequence[TrialTask], *, environment: Environment, timeout_s: float, entry: str = TRACES_ENTRY
) -> tuple[TrialRecord, ...]:
    """Trace the memory trials of all tasks in one process and return their records, in order.

    If a trace fails, its record says so, and the others continue. If the process dies, hangs, or sends something other
    than a task's record, the record says that. ``environment``, ``timeout_s`` and ``entry`` are as in ``run_trial``;
    the timeout is for the whole process. There is no telemetry, because a trace is not timed.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    outcome = run_child(entry, json.dumps([task.to_json() for task in tasks]), timeout_s=timeout_s)
    records = []
    for task, answer in zip(tasks, _answers(outcome, num_tasks=len(tasks)), strict=True):
        record = None if answer is None else _record_for(task, answer)
        if record is None:
            record = _failed(task, outcome, environment=environment, started_at=started_at, timeout_s=timeout_s)
        records.append(replace(record, environment=record.environment or environment))
    return tuple(records)


def _answers(outcome: ChildOutcome, *, num_tasks: int) -> Sequence[str | None]:
    """Return the child's answer for each task; None for every task if the answer is not a list of that many texts."""
    try:
        answers = json.loads(outcome.answer or b"null")
    except ValueError:
        answers = None
    is_list = isinstance(answers, list) and len(answers) == num_tasks
    return answers if is_list and all(isinstance(answer, str) for answer in answers) else [None] * num_tasks


def _failed(
    task: TrialTask, outcome: ChildOutcome, *, environment: Environment, started_at: str, timeout_s: float
) -> TrialRecord:
    """Return the record for a trial whose process ended without one."""
    has_memory_limit = task.spec.memory_limit_bytes is not None
    status, cause = failure_of(outcome, timeout_s=timeout_s, has_memory_limit=has_memory_limit)
    return TrialRecord(
        spec=task.spec,
        replicate=task.replicate,
        attempt=task.attempt,
        status=status,
        cause=cause,
        environment=environment,
        started_at=started_at,
        elapsed_s=outcome.elapsed_s,
    )


def _record_for(task: TrialTask, answer: str | bytes) -> TrialRecord | None:
    """Return the task's record from an answer; None if the answer holds something else."""
    try:
        record = TrialRecord.from_json(answer)
    except ValueError:
        return None
    asked = (task.spec, task.replicate, task.attempt)
    return record if (record.spec, record.replicate, record.attempt) == asked else None


def failure_of(outcome: ChildOutcome, *, timeout_s: float, has_memory_limit: bool) -> tuple[Status, Cause]:
    """Return status and cause for a child that ended without a record of its trial."""
    detail = outcome.log_tail or None
    if outcome.is_timeout:
        message = f"still running after {format_duration(timeout_s)}; ended by its time limit"
        return "timeout", Cause(kind="deadline", message=message, detail=detail)
    if outcome.is_oom_killed:
        message = "the operating system killed the process because memory ran out"
        return "oom", Cause(kind="host-killed", message=message, detail=detail)
    if outcome.num_answer_bytes:
        message = f"the process sent {count(outcome.num_answer_bytes, 'byte')} instead of the record of this trial"
        return "crashed", Cause(kind="garbage", message=message, detail=detail)
    if any(text in outcome.log_tail for text in NO_MEMORY_TEXTS):
        message = f"{_ending(outcome)}, after an allocation on the host failed"
        return "oom", Cause(kind="host-allocation", message=message, detail=detail)
    message = _ending(outcome)
    if has_memory_limit and outcome.exit_code in DEATHS_BY_LIMIT:
        message += ", under a memory limit: libraries that ignore a failed allocation end like this"
        return "oom", Cause(kind="host-allocation", message=message, detail=detail)
    if outcome.exit_code is not None and outcome.exit_code < 0:
        return "crashed", Cause(kind="signal", message=message, detail=detail)
    if outcome.exit_code:
        return "crashed", Cause(kind="exit-code", message=message, detail=detail)
    return "crashed", Cause(kind="no-record", message=message, detail=detail)


def _last_words(outcome: ChildOutcome) -> str:
    """Return the last line that a process wrote, and the file that keeps the rest."""
    lines = outcome.log_tail.splitlines()
    return f"{lines[-1]}; {keep_details(outcome.log_tail)}" if lines else _ending(outcome)


def _ending(outcome: ChildOutcome) -> str:
    code = outcome.exit_code
    if code is None:
        return "the process had to be ended"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the process was ended by {name}"
    return f"the process ended with exit code {code} and without a record"
