"""Define the ratio of two figures, as an estimate of its logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vnbench.analysis.statistics.estimate import CONFIDENCE, Estimate, student_t

LARGEST_LOG = 700.0
"""Largest logarithm of a ratio: above 709 the ratio is not a finite float, and only wildly noisy processes reach it."""

POWER = 0.95
"""Probability of finding a change of the smallest detectable size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """One figure over another."""

    log: Estimate
    """Natural logarithm of the ratio."""
    level: float = CONFIDENCE
    """Two-sided coverage of its interval."""
    margin: float | None = None
    """Half-width of the interval of the logarithm, where it does not follow from Student's t."""
    allowance: float = 0.0
    """Further margin, in quadrature, that a change must exceed: noise that is assumed, not measured."""

    @property
    def value(self) -> float:
        """The ratio."""
        return _exp(self.log.value)

    @property
    def half_width(self) -> float | None:
        """Half-width of the interval of the logarithm; to first order, relative to the ratio."""
        return self.log.margin(self.level) if self.margin is None else self.margin

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the interval of the ratio; None without an error."""
        ends = self.log.interval(self.level)
        return None if ends is None else (_exp(ends[0]), _exp(ends[1]))

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval excludes 1."""
        return self.interval is not None and not self.interval[0] <= 1 <= self.interval[1]

    @property
    def inverse(self) -> Ratio:
        """The inverse ratio, with the same error."""
        return replace(self, log=self.log * -1)

    @property
    def needed(self) -> float | None:
        """The logarithm that a change must exceed to be believed: the half-width, with the allowance."""
        return None if self.half_width is None else math.hypot(self.half_width, self.allowance)

    @property
    def one_sided(self) -> float | None:
        """Distance of the logarithm from the end of its one-sided interval of coverage POWER; None without an error."""
        return self.log.margin(2 * POWER - 1)

    def is_no_slower(self, tolerance: float) -> bool:
        """Return whether it could have seen a slowdown of the tolerance, and did not.

        Either the one-sided interval ends below the tolerance, or it is narrower than that and the estimate is below. A
        slowdown of twice the tolerance is then missed with a probability of at most 1 - POWER.
        """
        limit, margin = math.log1p(tolerance), self.one_sided
        return margin is not None and (self.log.value + margin < limit or (margin <= limit and self.log.value < limit))

    def is_slower(self, tolerance: float) -> bool:
        """Return whether it exceeds 1 by what is needed, and by at least the tolerance."""
        return self.needed is not None and self.log.value > self.needed and self.looks_slower(tolerance)

    def looks_slower(self, tolerance: float) -> bool:
        """Return whether the interval lies above 1 and the ratio is at least 1 plus the tolerance."""
        log, half_width = self.log.value, self.half_width
        return half_width is not None and log > half_width and log >= math.log1p(tolerance)

    def is_faster(self, tolerance: float) -> bool:
        """Return whether the inverse ratio is slower."""
        return self.inverse.is_slower(tolerance)

    def smallest_detectable(self, tolerance: float) -> float | None:
        """Return the smallest true slowdown, relative, that looks slower with probability POWER.

        It must move the interval above 1 and the estimate beyond the tolerance even against the noise. None without an
        interval.
        """
        if self.half_width is None or self.log.se is None:
            return None
        needed = max(self.half_width, math.log1p(tolerance))
        # One-sided Student's t at POWER.
        return _exp(needed + student_t(self.log.dof, 2 * POWER - 1) * self.log.se) - 1


def _exp(value: float) -> float:
    return math.exp(min(value, LARGEST_LOG))
