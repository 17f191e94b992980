"""``vnbench audit``: whether a training loop does what it says, from one child process that runs it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console, tell
from vnbench.output.tables.audit import audit_lines
from vnbench.processes.parent import PRELOAD, run_child
from vnbench.records.audit_reading import AuditReading
from vnbench.records.machine_keys import Environment
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.spec.trial_spec import AuditSpec
from vnbench.records.store import ResultsFile
from vnbench.request.option import parsed, with_defaults
from vnbench.request.options import AUDIT_OPTIONS
from vnbench.request.own_model import OwnModel, read_own_loop
from vnbench.sweep.runner import check_own_models, failure_of

AUDIT_ENTRY = "vnbench.loops.entry:run"

WHERE = "FILE.py:FUNCTION"

TIMEOUT_S = 300.0
"""Seconds after which a loop counts as one that never ends; an audit takes a few."""

EXAMPLES_PER_BATCH = 2
"""Two, so that a batch has a mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditReport:
    """What was found in a loop."""

    spec: AuditSpec
    """What was audited."""
    reading: AuditReading
    """What was found."""
    out: Path | None
    """Results file that holds the record; None if none was asked for."""

    @property
    def exit_code(self) -> int:
        """0, or 1 where the loop breaks its contract."""
        return 1 if self.reading.outcome == "broken" else 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "outcome": self.reading.outcome,
            **asdict(self.reading),
            "loop": self.spec.audited_loop,
            "out": None if self.out is None else str(self.out),
        }


def run_audit_command(loop: str, flags: Mapping[str, str | None], *, out: Path | None, as_json: bool) -> AuditReport:
    """Audit a loop in a process of its own, tell of it, and write its record where one is asked for.

    Raises:
        InputError: an option cannot be used, there is no such loop, or it cannot be audited.
    """
    read_own_loop(loop, where=WHERE)
    spec = _spec(loop, parsed(AUDIT_OPTIONS, with_defaults(AUDIT_OPTIONS, flags)))
    check_own_models([spec])
    started_at, start_s = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    environment, reading = _audited(spec)
    record = TrialRecord(
        spec=spec,
        replicate=0,
        attempt=0,
        status="ok" if reading.outcome == "pass" else "wrong",
        cause=_cause(reading),
        environment=environment,
        started_at=started_at,
        elapsed_s=time.monotonic() - start_s,
        audit=reading,
    )
    if out is not None:
        _write(record, out)
    if not as_json:
        tell(audit_lines(reading, loop=loop))
    if out is not None:
        say(stderr_console(), f"record: {out}")
    return AuditReport(spec=spec, reading=reading, out=out)


def _spec(loop: str, values: Mapping[str, Any]) -> AuditSpec:
    model = values["model"]
    is_own = isinstance(model, OwnModel)
    return AuditSpec(
        device="cpu",
        model=model.name if is_own else model,
        model_id=model.model_id if is_own else None,
        task=values["task"],
        batch_size=EXAMPLES_PER_BATCH,
        micro_batch_size=EXAMPLES_PER_BATCH,
        precision="fp32",
        norm_precision="fp32",
        checkpointing="none",
        seed=values["seed"],
        audited_loop=loop,
    )


def _audited(spec: AuditSpec) -> tuple[Environment, AuditReading]:
    payload = json.dumps(spec.canonical())
    outcome = run_child(AUDIT_ENTRY, payload, timeout_s=TIMEOUT_S, preload=(*PRELOAD, "vnbench.loops.entry"))
    if outcome.answer is None:
        _, cause = failure_of(outcome, timeout_s=TIMEOUT_S, has_memory_limit=False)
        raise InputError(
            WHERE,
            spec.audited_loop,
            allowed=f"the process in which it ran gave no answer: {cause.message}",
            remedy="let it return after the batches that it is given",
        )
    answer = json.loads(outcome.answer)
    if "problem" in answer:
        raise InputError(WHERE, spec.audited_loop, allowed=answer["problem"], remedy=answer["remedy"])
    return answer["environment"], msgspec.convert(answer["reading"], AuditReading)


def _cause(reading: AuditReading) -> Cause | None:
    if not reading.findings:
        return None
    codes = dict.fromkeys(one.code for one in reading.findings)
    return Cause(kind="broken-loop", message=", ".join(codes), detail="\n".join(one.line() for one in reading.findings))


def _write(record: TrialRecord[AuditSpec], path: Path) -> None:
    """Append a record to a results file, as the next attempt after earlier audits of the same loop."""
    with ResultsFile(path, environment=record.environment) as file:
        attempts = [one.attempt for one in file.audits if one.spec_id == record.spec_id]
        file.append(replace(record, attempt=max(attempts, default=-1) + 1))
