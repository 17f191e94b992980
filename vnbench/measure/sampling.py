"""Periodic readings in a separate thread, so that a hanging reading blocks nothing else."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")

Span = tuple[float, float]
"""Start and end, both included, in seconds of ``time.monotonic()``, a clock that all processes of a machine share."""

MAX_CPU_SHARE = 0.01
"""Share of one core that readings may use; if they cost more (hundreds of CPUs, a slow driver), they become rarer."""

MAX_PERIOD_S = 1.0
"""Maximum period for costly readings."""

STOP_TIMEOUT_S = 1.0
"""Seconds to wait for the reading in progress to end; a healthy one takes milliseconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamped(Generic[R]):
    """A reading and its time."""

    at_s: float
    """``time.monotonic()`` at the start of the reading."""
    reading: R
    """The reading itself."""


class Sampler(Generic[R]):
    """Calls ``read`` periodically until it is stopped or ``read`` returns None because there is nothing to read."""

    def __init__(self, read: Callable[[], R | None], *, period_s: float, name: str) -> None:
        self.is_exhausted = False
        """Whether ``read`` returned None."""
        self._period_s = period_s
        self._read = read
        self._readings: list[Stamped[R]] = []
        self._ended = threading.Event()
        # A daemon, because a reading that never returns must not keep the program alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> threading.Thread | None:
        """Stop reading; return the thread if it still hangs in a reading after ``timeout_s`` seconds."""
        self._ended.set()
        self._thread.join(timeout_s)
        return self._thread if self._thread.is_alive() else None

    @property
    def readings(self) -> tuple[Stamped[R], ...]:
        """Readings so far, in order of time."""
        return tuple(self._readings)

    def _run(self) -> None:
        while not self._ended.is_set():
            at_s, cpu_s = time.monotonic(), time.thread_time()
            reading = self._read()
            if reading is None:
                self.is_exhausted = True
                return
            self._readings.append(Stamped(at_s=at_s, reading=reading))
            # The first reading also pays for opening files and devices.
            cost_s = time.thread_time() - cpu_s if len(self._readings) > 1 else 0.0
            period_s = stretched_period_s(self._period_s, cost_s=cost_s)
            self._ended.wait(max(0.0, at_s + period_s - time.monotonic()))


def stretched_period_s(period_s: float, *, cost_s: float) -> float:
    """Return the seconds between readings that take ``cost_s`` of CPU time each: longer if they are costly."""
    return max(period_s, min(cost_s / MAX_CPU_SHARE, MAX_PERIOD_S))


def readings_in(readings: Sequence[Stamped[R]], span: Span | None) -> tuple[Stamped[R], ...]:
    """Return the readings inside a span; all of them if ``span`` is None.

    If none is inside, for example in a span shorter than the period, the nearest reading is used unless it is more than
    MAX_PERIOD_S away.
    """
    if span is None or not readings:
        return tuple(readings)
    start_s, end_s = span
    inside = tuple(item for item in readings if start_s <= item.at_s <= end_s)
    if inside:
        return inside

    def distance_s(item: Stamped[R]) -> float:
        return max(start_s - item.at_s, item.at_s - end_s)

    nearest = min(readings, key=distance_s)
    return (nearest,) if distance_s(nearest) <= MAX_PERIOD_S else ()


def longest_silence_s(readings: Sequence[Stamped[R]], span: Span) -> float:
    """Return the longest time without a reading inside a span, including its ends, in seconds."""
    start_s, end_s = span
    times_s = [start_s, *(item.at_s for item in readings if start_s <= item.at_s <= end_s), end_s]
    return max(after - before for before, after in itertools.pairwise(times_s))
