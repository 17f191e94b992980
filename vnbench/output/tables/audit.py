"""What an audit found in a training loop, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vnbench.records.audit_reading import AuditReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import AuditSpec
from vnbench.units import count

MAX_STEPS = 8
"""Rows of the matrix that the terminal shows."""

MAX_PASSES = 16
"""Its columns."""


def audit_lines(reading: AuditReading, *, loop: str) -> Iterator[str]:
    """Yield the answer, a line for each finding and note, and the contribution matrix."""
    yield answer_line(reading, loop=loop)
    yield from (one.line() for one in reading.findings)
    yield from (f"note: {note}" for note in reading.notes)
    yield ""
    yield from matrix_lines(reading.contributions)


def audit_paragraph(record: TrialRecord[AuditSpec]) -> tuple[str, ...]:
    """Return the lines of an audit that a report holds."""
    assert record.audit is not None
    reading = record.audit
    findings = (one.line() for one in reading.findings)
    return (answer_line(reading, loop=record.spec.audited_loop), *findings, *(f"note: {one}" for one in reading.notes))


def answer_line(reading: AuditReading, *, loop: str) -> str:
    """Return whether a loop does what it says, and what it was seen to run."""
    seen = ", ".join(
        (
            count(reading.num_batches, "batch"),
            count(reading.num_passes, "backward pass"),
            count(reading.num_steps, "optimizer step"),
        )
    )
    told = "nothing wrong was found" if reading.outcome == "pass" else count(len(reading.findings), "finding")
    return f"{loop}: {told} in {seen}."


def matrix_lines(contributions: Sequence[Sequence[float]]) -> Iterator[str]:
    """Yield the weight of each pass in each step, over the largest of its step."""
    num_passes = min(MAX_PASSES, len(contributions[0]) if contributions else 0)
    yield "Weight of each pass in each step, over the largest of the step:"
    yield f"{'pass':>9}" + "".join(f"{number:>5}" for number in range(1, num_passes + 1))
    for number, row in enumerate(contributions[:MAX_STEPS], start=1):
        yield f"step {number:>4}" + "".join(f"{_weight(value, row):>5}" for value in row[:num_passes])
    rest = count(len(contributions) - MAX_STEPS, "further step") if len(contributions) > MAX_STEPS else ""
    if rest:
        yield f"and {rest}"


def _weight(value: float, row: Sequence[float]) -> str:
    return f"{value / max(map(abs, row)):.2g}" if value else "."
