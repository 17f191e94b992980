"""Define a number with its error, its intervals, and arithmetic with errors."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Default two-sided coverage of intervals and half-widths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number with its error, both in the same unit."""

    value: float
    """The number."""
    se: float | None = None
    """Its standard error; None if unknown."""
    dof: float = math.inf
    """Degrees of freedom of ``se``; infinite if there are plenty."""

    @property
    def relative_error(self) -> float | None:
        """The standard error over |value|; None without an error or if the value is zero."""
        return None if self.se is None or self.value == 0 else self.se / abs(self.value)

    @property
    def half_width(self) -> float | None:
        """Half the width of the two-sided 95 % interval; None without an error."""
        return self.margin()

    @property
    def relative_half_width(self) -> float | None:
        """The half-width over |value|; None without an error or if the value is zero."""
        return None if self.half_width is None or self.value == 0 else self.half_width / abs(self.value)

    def margin(self, level: float = CONFIDENCE) -> float | None:
        """Return half the width of the two-sided interval of a level; None without an error."""
        return None if self.se is None else student_t(self.dof, level) * self.se

    def interval(self, level: float = CONFIDENCE) -> tuple[float, float] | None:
        """Return the ends of the two-sided interval of a level; None without an error."""
        margin = self.margin(level)
        return None if margin is None else (self.value - margin, self.value + margin)

    def at(self, value: float) -> Self:
        """Return another number with the same relative error."""
        error = self.relative_error
        return replace(self, value=value, se=None if error is None else error * abs(value))

    def less(self, other: Estimate) -> Estimate:
        """Return the difference from an independent estimate; it has an error if both have one."""
        value = self.value - other.value
        if self.se is None or other.se is None:
            return Estimate(value=value)
        variance, dof = sum_of_variances([(self.se**2, self.dof), (other.se**2, other.dof)])
        return Estimate(value=value, se=math.sqrt(variance), dof=dof)

    def __mul__(self, factor: float) -> Self:
        """Return the product with an exact factor."""
        return replace(self, value=self.value * factor, se=None if self.se is None else self.se * abs(factor))

    def __truediv__(self, divisor: float) -> Self:
        """Return the quotient by an exact divisor."""
        return replace(self, value=self.value / divisor, se=None if self.se is None else self.se / abs(divisor))


@functools.lru_cache(maxsize=4096)
def student_t(dof: float, level: float = CONFIDENCE) -> float:
    """Return the factor from standard error to half-width; the degrees of freedom may be fractional."""
    return float(stdtrit(dof, (1 + level) / 2))


def sum_of_variances(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of independent variances, each given with its degrees of freedom, and those of the sum.

    By Welch's and Satterthwaite's formula (Satterthwaite, Biometrics Bulletin 2, 1946, page 110).
    """
    total = math.fsum(variance for variance, _ in parts)
    uncertainty = math.fsum(variance**2 / dof for variance, dof in parts)
    if uncertainty > 0:
        return total, total**2 / uncertainty
    return total, math.inf if total > 0 else min((dof for _, dof in parts), default=math.inf)
