"""The time that a sweep may take, and what of it is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from vnbench.errors import BudgetError
from vnbench.units import format_duration

ENDING_S = 8.0
"""Seconds from the last trial to the end: the table, and the plots."""

GRACE_SHARE = 0.06
"""Share of the budget by which a trial may run over it, before it is ended: estimates are off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepEstimate:
    """What a sweep will take, in seconds from its start."""

    total_s: float
    """All of it."""
    least_s: float
    """Until the first trial with a time has ended, the end of the sweep included; 0 where nothing is left to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """A sweep's time budget."""

    total_s: float | None
    """Seconds that the whole sweep may take; None for no limit."""
    start: float
    """When it began, on ``clock``."""
    clock: Callable[[], float] = time.monotonic
    """Returns monotonic seconds."""

    @property
    def deadline(self) -> float | None:
        """When trials must have ended, on ``clock``; None for never."""
        return None if self.total_s is None else self.start + self.total_s - ENDING_S

    def elapsed_s(self) -> float:
        """Return the seconds since the sweep began."""
        return self.clock() - self.start

    def longest_s(self) -> float:
        """Return the seconds after which a trial that starts now is ended, whatever it is at."""
        if self.total_s is None or self.deadline is None:
            return math.inf
        return max(1.0, self.deadline + GRACE_SHARE * self.total_s - self.clock())

    def check(self, estimate: SweepEstimate) -> None:
        """Refuse to begin what cannot bring home one figure.

        Raises:
            BudgetError: not one trial would end in time.
        """
        if self.total_s is not None and estimate.least_s > self.total_s:
            raise BudgetError(
                f"--time-budget {format_duration(self.total_s)} is too small to measure anything: the first trial and "
                f"the report end after about {format_duration(estimate.least_s)}"
            )
