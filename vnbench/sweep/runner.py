"""One trial in its own process, seen from the parent: a task goes in, a record comes out, whatever happens."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from vnbench.errors import ChildError, InputError
from vnbench.processes.failure import keep_details
from vnbench.processes.parent import ChildOutcome, run_child
from vnbench.records.machine_keys import Environment
from vnbench.records.record import Cause, Status, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import PRECISIONS
from vnbench.records.task import TrialTask
from vnbench.sweep.disturbances import find_disturbances
from vnbench.sweep.telemetry import MachineWatch
from vnbench.units import count, format_duration

TRIAL_ENTRY = "vnbench.trial.entry:run"
TRACES_ENTRY = "vnbench.trial.entry:run_all"
CONVOLUTIONS_ENTRY = "vnbench.trial.kinds.probe:convolution_times"
PROBE_ENTRY = "vnbench.trial.instruments.environment:probe"
MODEL_CHECK_ENTRY = "vnbench.trial.checks.own_network:run"

PROBE_TIMEOUT_S = 180.0
"""A first import of torch from a cold disk takes tens of seconds; more than this is a broken installation."""


NO_MEMORY_TEXTS = (
    "std::bad_alloc",
    "Cannot allocate memory",
    "DefaultCPUAllocator: ",
    "out of memory",
    "libgomp: Thread creation failed",
)
"""What a process has said at its end that died of a failed allocation, where no exception could be raised."""


DEATHS_BY_LIMIT = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)
"""How a process ends that goes on with memory that it did not get; oneDNN was seen to."""


def probe_environment(device: str) -> Environment:
    """Return the environment on a device (auto, cuda or cpu), asked of a child process.

    Raises:
        InputError: CUDA is asked for and there is none.
        ChildError: the child did not answer, as when torch does not import.
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
    """Return the seconds of one convolution by precision; a CPU is tried in all of them, a GPU where it has units.

    Nothing comes back where the child does not answer.
    """
    is_cpu = environment["device_type"] == "cpu"
    precisions = [one for one in PRECISIONS if one != "tf32"] if is_cpu else environment.get("native_precisions") or []
    order = json.dumps({"device": environment["device_type"], "precisions": precisions})
    outcome = run_child(CONVOLUTIONS_ENTRY, order, timeout_s=PROBE_TIMEOUT_S)
    found: dict[str, float] = json.loads(outcome.answer or b"{}")
    return found


def check_own_models(specs: Iterable[TrialSpec]) -> None:
    """Let a child process run a user's own network on a small canvas before hours are spent on it.

    Raises:
        InputError: it does not run, does not return logits, or is not exact where it is said to be.
        ChildError: the child did not answer.
    """
    # A network that takes checkpointing as a parameter may know stages alone.
    tried = {
        f"--padding {spec.padding}"
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
                f"{spec.model} {options}",
                allowed=answer["problem"],
                remedy=answer["remedy"],
            )


def run_trial(task: TrialTask, *, environment: Environment, timeout_s: float, entry: str = TRIAL_ENTRY) -> TrialRecord:
    """Run a trial in a fresh process and return its record, with what was seen of the machine from outside.

    ``environment`` stands in the record where the child did not live to describe its own. ``entry`` is the child's
    function; the span that its record names is in seconds of ``time.monotonic()``, and afterwards in seconds after the
    start of the process.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start_s = time.monotonic()
    with MachineWatch(device_uuid=environment.get("device_uuid")) as watch:
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
    """Trace the memory trials of all tasks in one process, and return the record of each, in their order.

    A trace that fails has a record that says so, and the others go on. Where the process itself dies, hangs, or answers
    with what is no record of a task, the record says that. ``environment``, ``timeout_s`` and ``entry`` are as in
    ``run_trial``, the time that of the whole process. No machine is watched: a trace is not timed.
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
    """Return what a child answered of each task; None of every one where it is no list of as many texts."""
    try:
        answers = json.loads(outcome.answer or b"null")
    except ValueError:
        answers = None
    is_list = isinstance(answers, list) and len(answers) == num_tasks
    return answers if is_list and all(isinstance(answer, str) for answer in answers) else [None] * num_tasks


def _failed(
    task: TrialTask, outcome: ChildOutcome, *, environment: Environment, started_at: str, timeout_s: float
) -> TrialRecord:
    """Return the record of a trial whose process ended without one."""
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
    """Return the record of a task that an answer holds; None where it holds something else."""
    try:
        record = TrialRecord.from_json(answer)
    except ValueError:
        return None
    asked = (task.spec, task.replicate, task.attempt)
    return record if (record.spec, record.replicate, record.attempt) == asked else None


def failure_of(outcome: ChildOutcome, *, timeout_s: float, has_memory_limit: bool) -> tuple[Status, Cause]:
    """Return what it means that a child ended without a record of its trial."""
    detail = outcome.log_tail or None
    if outcome.is_timeout:
        message = f"still running after {format_duration(timeout_s)}; ended by its time limit"
        return "timeout", Cause(kind="deadline", message=message, detail=detail)
    if outcome.is_oom_killed:
        message = "the operating system killed the process while memory ran out"
        return "oom", Cause(kind="host-killed", message=message, detail=detail)
    if outcome.num_answer_bytes:
        message = f"the process sent {count(outcome.num_answer_bytes, 'byte')} instead of the record of this trial"
        return "crashed", Cause(kind="garbage", message=message, detail=detail)
    if any(text in outcome.log_tail for text in NO_MEMORY_TEXTS):
        message = f"{_ending(outcome)}, after an allocation on the host failed"
        return "oom", Cause(kind="host-allocation", message=message, detail=detail)
    message = _ending(outcome)
    if has_memory_limit and outcome.exit_code in DEATHS_BY_LIMIT:
        message += ", under a memory limit: libraries that do not look at a failed allocation end so"
        return "oom", Cause(kind="host-allocation", message=message, detail=detail)
    if outcome.exit_code is not None and outcome.exit_code < 0:
        return "crashed", Cause(kind="signal", message=message, detail=detail)
    if outcome.exit_code:
        return "crashed", Cause(kind="exit-code", message=message, detail=detail)
    return "crashed", Cause(kind="no-record", message=message, detail=detail)


def _last_words(outcome: ChildOutcome) -> str:
    """Return in one line what a process said last, and where the rest of it is kept."""
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
