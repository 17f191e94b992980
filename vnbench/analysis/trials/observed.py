"""Join the epochs of observed runs: a run that somebody watches leaves a record at the end of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vnbench.records.readings import Block, MemoryReading, ObservedReading
from vnbench.records.record import TrialRecord, TrialWarning
from vnbench.records.spec.trial_spec import ObservedSpec


def joined_epochs(epochs: Sequence[TrialRecord[ObservedSpec]]) -> TrialRecord[ObservedSpec]:
    """Return the record of a whole run from those of its epochs, in the order in which they were written.

    Steps stand behind one another, and an epoch is a block of them. Where epochs ended otherwise than ``ok``, the first
    of these says how the run ended.
    """
    first, last = epochs[0], epochs[-1]
    if len(epochs) == 1:
        return first
    failed = next((one for one in epochs if one.status != "ok"), None)
    return replace(
        last,
        status=failed.status if failed else "ok",
        cause=failed.cause if failed else None,
        steps=_joined_steps(epochs),
        block=_joined_blocks([one.block for one in epochs]),
        batching=max(
            (one.batching for one in epochs if one.batching), key=lambda plan: plan.num_examples, default=None
        ),
        memory=_largest(one.memory for one in epochs),
        measured_span_s=_whole_span([one.measured_span_s for one in epochs]),
        observed=_joined_readings([one.observed for one in epochs if one.observed is not None]),
        warnings=_distinct(warning for one in epochs for warning in one.warnings),
    )


def _joined_steps(epochs: Sequence[TrialRecord]) -> dict[str, tuple[object, ...]] | None:
    known = [(one.attempt, one.steps) for one in epochs if one.steps]
    if not known:
        return None
    joined = {name: tuple(value for _, steps in known for value in steps[name]) for name in known[0][1]}
    return joined | {"block": tuple(number for number, steps in known for _ in steps["is_warm_up"])}


def _joined_blocks(blocks: Sequence[Block | None]) -> Block | None:
    """Return the totals of blocks; None if one of them is unknown."""
    known = [block for block in blocks if block is not None]
    if len(known) < len(blocks):
        return None
    return Block(
        wall_time_s=sum(block.wall_time_s for block in known),
        num_steps=sum(block.num_steps for block in known),
        num_examples=sum(block.num_examples for block in known),
        valid_pixels=sum(block.valid_pixels for block in known),
        padded_pixels=sum(block.padded_pixels for block in known),
    )


def _largest(readings: Iterable[MemoryReading | None]) -> MemoryReading | None:
    """Return the reading with the largest peak, which the counters of a process never lower."""

    def peak(reading: MemoryReading) -> int:
        return reading.peak_reserved_bytes or reading.process_peak_rss_bytes or 0

    return max((one for one in readings if one is not None), key=peak, default=None)


def _whole_span(spans: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    known = [span for span in spans if span is not None]
    return (known[0][0], known[-1][1]) if known else None


def _joined_readings(readings: Sequence[ObservedReading]) -> ObservedReading | None:
    if not readings:
        return None
    validations = [one.validation_s for one in readings if one.validation_s is not None]
    return replace(
        readings[-1],
        num_short_steps=sum(one.num_short_steps for one in readings),
        largest_canvas=max((one.largest_canvas for one in readings), key=lambda side: side[0] * side[1]),
        num_snapshots=sum(one.num_snapshots for one in readings),
        validation_s=sum(validations) if validations else None,
        observing_s=sum(one.observing_s for one in readings),
    )


def _distinct(warnings: Iterable[TrialWarning]) -> tuple[TrialWarning, ...]:
    """Return the last warning of each code: what one epoch says again replaces what an earlier one said."""
    return tuple({warning.code: warning for warning in warnings}.values())
