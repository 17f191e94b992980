"""The time budget of a sweep."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vnbench.errors import BudgetError
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import format_duration

ENDING_S = 8.0
"""Seconds that the table and the plots need after the last trial."""

GRACE_SHARE = 0.06
"""Share of the budget by which a trial may overrun before it is ended, since estimates are inexact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepEstimate:
    """Estimated duration of a sweep, in seconds from its start."""

    total_s: float
    """Seconds until its end."""
    least_s: float
    """Seconds for the first timed trial and the report; 0 if nothing is left to do."""
    once_s: float = 0.0
    """Seconds until every configuration has been measured once; what comes later repeats."""


def without_time(
    specs: Iterable[TrialSpec], *, takes_s: Callable[[TrialSpec], float], left_s: float
) -> Iterator[TrialSpec]:
    """Yield the trials that find no time in ``left_s`` seconds: each starts in turn if it would end in time."""
    for spec in specs:
        if takes_s(spec) <= left_s:
            left_s -= takes_s(spec)
        else:
            yield spec


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A sweep's time budget."""

    total_s: float | None
    """Seconds that the whole sweep may take; None for no limit."""
    start: float
    """Start of the sweep on ``clock``."""
    clock: Callable[[], float] = time.monotonic
    """Returns monotonic seconds."""

    @property
    def deadline(self) -> float | None:
        """Time on ``clock`` by which trials must end; None for no limit."""
        return None if self.total_s is None else self.start + self.total_s - ENDING_S

    def elapsed_s(self) -> float:
        """Return the seconds since the sweep began."""
        return self.clock() - self.start

    def left_s(self) -> float:
        """Return the seconds that are left for trials; 0 where none may start, infinity without a limit."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - self.clock())

    def longest_s(self) -> float:
        """Return the seconds after which a trial that starts now is ended, finished or not."""
        if self.total_s is None or self.deadline is None:
            return math.inf
        return max(1.0, self.deadline + GRACE_SHARE * self.total_s - self.clock())

    def check(self, estimate: SweepEstimate) -> None:
        """Refuse a budget that is too small for a single measurement.

        Raises:
            BudgetError: not even one trial would end in time.
        """
        if self.total_s is not None and estimate.least_s > self.total_s:
            raise BudgetError(
                f"--time-budget {format_duration(self.total_s)} is too small to measure anything: the first trial and "
                f"the report end after about {format_duration(estimate.least_s)}"
            )
