"""Phase times of optimizer steps, from CUDA events on a GPU and from a monotonic clock on the CPU.

A timer covers one block of steps. Within a block nothing waits for the device: events are read after one
synchronisation at the end. ``data_wait`` is the host's waiting time on both devices; on CUDA the host may run ahead of
the device, so that part of the wait can overlap with queued kernels.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, get_args

import torch

Phase = Literal["data_wait", "h2d", "forward", "backward", "optimizer"]
PHASES: tuple[Phase, ...] = get_args(Phase)

Clock = Callable[[], float]
"""Returns monotonic seconds."""

PhaseTimes = dict[str, list[float]]
"""``step_time_s`` and a ``<phase>_s`` for each phase, in seconds, one value per step."""


class StepTimer(Protocol):
    """Times the phases of the steps of one block; a phase may be entered several times in a step."""

    def begin_block(self) -> None:
        """Wait for the device and start the block's wall clock."""

    def begin_step(self) -> None:
        """Mark the start of a step, which is the end of the previous one."""

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        """Return a context whose duration is added to a phase of the current step."""

    def end_block(self) -> tuple[PhaseTimes, float]:
        """Wait for the device; return the times of each step and the block's wall clock in seconds."""


class WallTimer:
    """Times from the host's clock; for the CPU, where an operation has ended when its call returns."""

    def __init__(self, *, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._block_start = 0.0
        self._step_starts: list[float] = []
        self._durations: list[dict[Phase, float]] = []

    def begin_block(self) -> None:
        """Start the block's wall clock."""
        self._block_start = self._clock()

    def begin_step(self) -> None:
        """Mark the start of a step."""
        self._step_starts.append(self._clock())
        self._durations.append(dict.fromkeys(PHASES, 0.0))

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Add the context's duration to a phase of the current step."""
        start = self._clock()
        yield
        self._durations[-1][name] += self._clock() - start

    def end_block(self) -> tuple[PhaseTimes, float]:
        """Return the times of each step and the block's wall clock in seconds."""
        end = self._clock()
        edges = [*self._step_starts, end]
        times: PhaseTimes = {"step_time_s": [b - a for a, b in itertools.pairwise(edges)]}
        for name in PHASES:
            times[f"{name}_s"] = [durations[name] for durations in self._durations]
        return times, end - self._block_start


class CudaTimer:
    """Times from CUDA events on the current stream, except ``data_wait``, which comes from the host's clock."""

    def __init__(self, *, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._block_start = 0.0
        self._step_events: list[torch.cuda.Event] = []
        self._spans: list[dict[Phase, list[tuple[torch.cuda.Event, torch.cuda.Event]]]] = []
        self._data_waits: list[float] = []

    def begin_block(self) -> None:
        """Wait for the device and start the block's wall clock."""
        torch.cuda.synchronize()
        self._block_start = self._clock()

    def begin_step(self) -> None:
        """Mark the start of a step in the stream."""
        self._step_events.append(_recorded_event())
        self._spans.append({name: [] for name in PHASES})
        self._data_waits.append(0.0)

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Add the context's duration to a phase of the current step."""
        if name == "data_wait":
            start = self._clock()
            yield
            self._data_waits[-1] += self._clock() - start
            return
        first = _recorded_event()
        yield
        self._spans[-1][name].append((first, _recorded_event()))

    def end_block(self) -> tuple[PhaseTimes, float]:
        """Wait for the device; return the times of each step and the block's wall clock in seconds."""
        edges = [*self._step_events, _recorded_event()]
        torch.cuda.synchronize()
        wall_time_s = self._clock() - self._block_start
        times: PhaseTimes = {"step_time_s": [_seconds(a, b) for a, b in itertools.pairwise(edges)]}
        for name in PHASES:
            times[f"{name}_s"] = [sum(_seconds(a, b) for a, b in spans[name]) for spans in self._spans]
        times["data_wait_s"] = list(self._data_waits)
        return times, wall_time_s


def make_timer(device: torch.device) -> StepTimer:
    """Return a timer for steps on ``device``."""
    return CudaTimer() if device.type == "cuda" else WallTimer()


def _recorded_event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    event.record()
    return event


def _seconds(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000.0
