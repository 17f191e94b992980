"""Whether what a trial observed can be believed: its status, and its warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vnbench.record import Cause, MemoryReading, TrialRecord, TrialWarning

MIN_MEASURED_STEPS = 5
"""Fewer measured steps than this say little about their own spread; the record then warns."""


def checked_loss(record: TrialRecord, losses: Sequence[float], *, is_skipped: Sequence[bool]) -> TrialRecord:
    """Return the record, marked ``wrong`` if a step that counted had a loss that is no number.

    A step that the gradient scaler left out may overflow; that is what the scaler is for.
    """
    bad = [i for i, loss in enumerate(losses) if not is_skipped[i] and not math.isfinite(loss)]
    if not bad:
        return record
    message = f"the loss was not finite in step {bad[0]} (warm-up included), {len(bad)} of {len(losses)} steps in all"
    return replace(record, status="wrong", cause=Cause(kind="non-finite-loss", message=message))


def memory_warnings(memory: MemoryReading) -> Iterator[TrialWarning]:
    """Yield what a memory reading says against the trial's times."""
    if memory.num_alloc_retries:
        message = (
            f"the allocator ran full {memory.num_alloc_retries} times and flushed its cache: times are not valid; "
            "try a smaller micro-batch or PYTORCH_ALLOC_CONF=expandable_segments:True"
        )
        yield TrialWarning(code="alloc-retries", message=message)


def step_warnings(is_skipped: Sequence[bool]) -> Iterator[TrialWarning]:
    """Yield what the measured steps say against themselves; ``is_skipped`` tells which the scaler left out."""
    if any(is_skipped):
        message = (
            f"the gradient scaler left out {sum(is_skipped)} of {len(is_skipped)} measured steps; "
            "they are excluded from times: try more --warm-up-steps or bf16"
        )
        yield TrialWarning(code="scaler-skipped-steps", message=message)
    if len(is_skipped) < MIN_MEASURED_STEPS:
        message = f"only {len(is_skipped)} steps were measured: the interval is wide; try a larger --subset"
        yield TrialWarning(code="few-steps", message=message)
