"""Follow the passes and steps of an epoch: who calls tells when a pass begins, what it does, and when a step ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vnbench.loops.observing.marks import Mark, mark
from vnbench.loops.observing.passes import Pass


@dataclass(slots=True)
class TimedPass:
    """A pass with its moments."""

    seen: Pass
    """What its batch tells."""
    start: Mark
    """End of the pass before, or of what came between."""
    fetched: Mark
    """When its batch was there."""
    backward: Mark | None = None
    """When its backward pass began; None if none ran."""
    backward_end: Mark | None = None
    """When that ended; None if nothing told."""
    end: Mark | None = None
    """When the loop was done with it."""


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step, and the passes since the one before."""

    passes: tuple[TimedPass, ...]
    """Its passes, in order."""
    is_skipped: bool
    """Whether the gradient scaler skipped the update."""


@dataclass(slots=True)
class Epoch:
    """What was seen of an epoch."""

    number: int
    """Its number, as the run counts it."""
    steps: list[Step] = field(default_factory=list)
    """Its steps, in order."""
    validation_s: float | None = None
    """Seconds of its validations; None without one."""
    num_snapshots: int = 0
    """Snapshots that were saved."""
    observing_s: float = 0.0
    """Seconds that watching took."""


class Clock:
    """Notes the moments of one epoch after another."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.epoch: Epoch | None = None
        self._open: list[TimedPass] = []
        self._start: Mark | None = None
        self._is_after_validation = self._has_snapshot = False

    def begin_epoch(self, number: int) -> None:
        """Begin an epoch; passes that no step took yet belong to its first one."""
        self.epoch = Epoch(number)
        self._start = mark(self.device)

    def end_epoch(self) -> Epoch | None:
        """Return the epoch that ends; None if none was begun."""
        epoch, self.epoch = self.epoch, None
        return epoch

    def fetched(self, seen: Pass) -> None:
        """Note that the batch of a pass is there."""
        now = mark(self.device)
        seen.is_after_validation, self._is_after_validation = self._is_after_validation, False
        seen.has_snapshot, self._has_snapshot = self._has_snapshot, False
        self._open.append(TimedPass(seen, self._start or now, now))

    def before_backward(self) -> None:
        """Note that a backward pass begins; of several in a pass the first counts."""
        if self._open and self._open[-1].backward is None:
            self._open[-1].backward = mark(self.device)

    def after_backward(self) -> None:
        """Note that a backward pass ended; of several in a pass the last counts."""
        if self._open:
            self._open[-1].backward_end = mark(self.device)

    def end_pass(self, *, has_stepped: bool, is_skipped: bool = False, loss: Any = None) -> None:
        """Note that the loop is done with a pass, and whether that ended an optimizer step."""
        if not self._open or self.epoch is None:
            return
        now = mark(self.device)
        self._open[-1].end = self._start = now
        self._open[-1].seen.loss = loss.detach() if isinstance(loss, Tensor) else loss
        if has_stepped or is_skipped:
            self.epoch.steps.append(Step(tuple(self._open), is_skipped and not has_stepped))
            self._open.clear()

    def note_snapshot(self) -> None:
        """Note that a snapshot is saved, within the time of the next pass."""
        self._has_snapshot = True
        if self.epoch is not None:
            self.epoch.num_snapshots += 1

    def leave_out(self, seconds: float, *, is_validation: bool) -> None:
        """Note that the loop did something else for so long, and goes on now."""
        self._start = mark(self.device)
        self._is_after_validation |= is_validation
        if is_validation and self.epoch is not None:
            self.epoch.validation_s = (self.epoch.validation_s or 0.0) + seconds


def durations_of(step: Step) -> dict[str, float | None]:
    """Return the seconds of a step by column; None where they are unknown. On CUDA all its marks must be reached."""
    passes = step.passes
    return {
        "step_time_s": _sum(None if one.end is None else one.start.until(one.end) for one in passes),
        "data_wait_s": _sum(one.start.host_until(one.fetched) for one in passes),
        "h2d_s": None,
        "forward_s": _sum(None if one.backward is None else one.fetched.until(one.backward) for one in passes),
        "backward_s": _sum(map(_backward_s, passes)),
        "optimizer_s": _sum(map(_update_s, passes)),
    }


def _backward_s(one: TimedPass) -> float | None:
    return None if one.backward is None or one.backward_end is None else one.backward.until(one.backward_end)


def _update_s(one: TimedPass) -> float | None:
    return None if one.backward_end is None or one.end is None else one.backward_end.until(one.end)


def _sum(values: Iterator[float | None] | Sequence[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
