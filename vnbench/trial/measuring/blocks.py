"""Blocks of steps: run between two synchronisations and stored as columns of a record."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any

from vnbench.analysis.statistics.means import find_outliers
from vnbench.loading.collate import Batch
from vnbench.records.readings import Block, MemoryReading
from vnbench.records.record import TrialRecord
from vnbench.records.step_columns import TRIAL_COLUMNS
from vnbench.trial.checks.soundness import checked_loss, warnings_of
from vnbench.trial.frameworks.looped import TimedStep
from vnbench.trial.instruments.timing import PHASES, make_timer

CANVAS = ("num_examples", "canvas_height", "canvas_width", "padded_pixels")
"""Columns that are equal for steps with the same work."""

DURATIONS = ("step_time_s", *(f"{name}_s" for name in PHASES))


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """Size of a step's work."""

    num_examples: int
    """Number of examples in the step."""
    num_micro_batches: int
    """Number of forward and backward passes."""
    valid_pixels: int
    """Sum of height x width of the examples."""
    padded_pixels: int
    """Sum of the canvases' pixels, padding included."""
    canvas_height: int
    """Largest canvas height in pixels."""
    canvas_width: int
    """Largest canvas width in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockTimes:
    """Times of one block."""

    step_times_s: tuple[float, ...]
    """Seconds of each step, on CUDA as measured by the device."""
    wall_time_s: float
    """Wall-clock seconds of the block."""


class BlockLog:
    """Runs blocks of steps and collects each step's readings for the record."""

    def __init__(self, step: TimedStep, *, num_updates: float = 0.0) -> None:
        """``num_updates`` is the optimizer's update count before the first block."""
        self._step = step
        self._columns: dict[str, list[Any]] = {name: [] for name in TRIAL_COLUMNS if name != "is_outlier"}
        self._losses: list[float] = []
        self._num_updates = num_updates
        self._num_blocks = 0
        self._measured_s = 0.0
        self._span: tuple[float, float] | None = None

    def run(self, batches: Iterator[Batch], shapes: Sequence[StepShape], *, is_warm_up: bool) -> BlockTimes:
        """Run one step for each shape on the next micro-batches of an iterator, and return the block's times."""
        timer = make_timer(self._step.device)
        start = time.monotonic()
        results, times, wall_time_s = self._step.run_block(
            batches, num_examples=[shape.num_examples for shape in shapes], timer=timer
        )
        end = time.monotonic()
        if not is_warm_up:
            self._span = (self._span[0] if self._span else start, end)
            self._measured_s += wall_time_s
        for row, (shape, result) in enumerate(zip(shapes, results, strict=True)):
            loss, num_updates = float(result.loss), float(result.num_updates)
            # A duration is negative if the clock stepped backwards: the record has null for unknown values.
            durations = {name: times[name][row] if times[name][row] >= 0 else None for name in DURATIONS}
            values: dict[str, Any] = {
                "is_warm_up": is_warm_up,
                "block": self._num_blocks,
                "num_examples": shape.num_examples,
                "num_micro_batches": shape.num_micro_batches,
                "valid_pixels": shape.valid_pixels,
                "padded_pixels": shape.padded_pixels,
                "canvas_height": shape.canvas_height,
                "canvas_width": shape.canvas_width,
                **durations,
                "loss": loss if math.isfinite(loss) else None,
                "is_skipped_by_scaler": num_updates == self._num_updates,
            }
            for name, column in self._columns.items():
                column.append(values[name])
            self._num_updates = num_updates
            self._losses.append(loss)
        self._num_blocks += 1
        return BlockTimes(step_times_s=tuple(times["step_time_s"]), wall_time_s=wall_time_s)

    def observed(self, record: TrialRecord, *, memory: MemoryReading, is_per_canvas: bool) -> TrialRecord:
        """Return the record with the steps so far, their totals and their warnings.

        Outliers are those of ``outliers_of``.
        """
        columns = self._columns | {"is_outlier": self._outliers(is_per_canvas=is_per_canvas)}
        record = replace(
            record,
            steps={name: tuple(columns[name]) for name in TRIAL_COLUMNS},
            block=self._block(),
            memory=memory,
            measured_span_s=self._span,
        )
        record = replace(record, warnings=warnings_of(record))
        return checked_loss(record, self._losses, is_skipped=columns["is_skipped_by_scaler"])

    def _block(self) -> Block | None:
        """Return the totals of the measured steps; None if the clock is unreliable."""
        return None if self._measured_s < 0 else totals_of(self._columns, wall_time_s=self._measured_s)

    def _outliers(self, *, is_per_canvas: bool) -> list[bool]:
        return outliers_of(self._columns, is_per_canvas=is_per_canvas)


def totals_of(columns: Mapping[str, Sequence[Any]], *, wall_time_s: float) -> Block | None:
    """Return the totals of the measured steps; None if there is none, or one without a time."""
    rows = _measured_rows(columns)
    if not rows or any(columns["step_time_s"][row] is None for row in rows):
        return None

    def total(name: str) -> int:
        return sum(columns[name][row] for row in rows)

    return Block(
        wall_time_s=wall_time_s,
        num_steps=len(rows),
        num_examples=total("num_examples"),
        valid_pixels=total("valid_pixels"),
        padded_pixels=total("padded_pixels"),
    )


def outliers_of(columns: Mapping[str, Sequence[Any]], *, is_per_canvas: bool) -> list[bool]:
    """Return for each step whether it took far longer or shorter than others on its canvas.

    With ``is_per_canvas`` each canvas has its own spread; otherwise all canvases share one spread of times relative to
    each canvas's typical step, and canvases that were measured once are ignored.
    """
    canvases: dict[Hashable, list[int]] = {}
    for row in _measured_rows(columns):
        if columns["step_time_s"][row] is not None:
            canvases.setdefault(tuple(columns[name][row] for name in CANVAS), []).append(row)
    flags = [False] * len(columns["is_warm_up"])
    if is_per_canvas:
        groups = [[(row, columns["step_time_s"][row]) for row in rows] for rows in canvases.values()]
    else:
        repeated = [rows for rows in canvases.values() if len(rows) > 1]
        groups = [[pair for rows in repeated for pair in _relative_times(columns, rows)]]
    for group in groups:
        for (row, _), is_outlier in zip(group, find_outliers([cost for _, cost in group]), strict=True):
            flags[row] = is_outlier
    return flags


def _relative_times(columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> list[tuple[int, float]]:
    """Return (row, time / low median) for steps on one canvas."""
    times_s = [columns["step_time_s"][row] for row in rows]
    typical_s = median_low(times_s)
    return [(row, seconds / typical_s) for row, seconds in zip(rows, times_s, strict=True)] if typical_s else []


def _measured_rows(columns: Mapping[str, Sequence[Any]]) -> list[int]:
    return [row for row, is_warm_up in enumerate(columns["is_warm_up"]) if not is_warm_up]
