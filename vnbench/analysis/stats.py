"""Means and ratios of sums over the steps of one process, with their 95 % intervals.

An interval from here covers the variation between the steps of one process: the mix of image sizes and the noise from
step to step. It does not cover what differs between processes, such as memory layout, clocks and neighbours on the
machine; only replicates show that. Steps are taken as independent draws, and nothing is subtracted for an epoch being
finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95
"""Two-sided coverage of every half-width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure with its uncertainty, all in the figure's own unit."""

    value: float
    """The estimate."""
    standard_error: float | None
    """Standard error; None below two observations."""
    half_width: float | None
    """Half the width of the two-sided 95 % interval; None below two observations."""
    num_observations: int
    """Observations that it rests on."""

    @property
    def relative_half_width(self) -> float | None:
        """half_width / |value|; None where either is missing or the value is zero."""
        return None if self.half_width is None or self.value == 0 else self.half_width / abs(self.value)


def mean(values: Sequence[float]) -> Estimate:
    """Return the arithmetic mean, with s / sqrt(n) as its standard error.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    return ratio_of_sums(values, [1.0] * len(values))


def ratio_of_sums(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Return R = sum(y) / sum(x) over paired observations, in the unit of y per unit of x.

    The standard error is that of the linearised ratio, sqrt(sum((y - R x)^2) / (n (n - 1))) / mean(x), without the
    correction for a finite population: Cochran, Sampling Techniques (3rd edition, 1977), section 2.11 and chapter 6.
    It holds to first order and tends to be too small with few pairs: Cochran's working rule (chapter 6) asks for n > 30
    and coefficients of variation of both means below 10 %. The relative half-width of x per y equals that of y per x.

    Raises:
        ValueError: no pairs, unpaired values, a value that is not finite, or denominators that sum to zero or less.
    """
    n = len(numerators)
    if n == 0 or len(denominators) != n:
        raise ValueError(f"{n} numerators and {len(denominators)} denominators: pairs are needed, at least one")
    if not all(map(math.isfinite, (*numerators, *denominators))):
        raise ValueError("a numerator or denominator is not finite")
    total = math.fsum(denominators)
    if total <= 0:
        raise ValueError(f"denominators sum to {total}: a positive sum is needed")
    ratio = math.fsum(numerators) / total
    if n < 2:
        return Estimate(value=ratio, standard_error=None, half_width=None, num_observations=n)
    residuals = math.fsum((y - ratio * x) ** 2 for y, x in zip(numerators, denominators, strict=True))
    standard_error = math.sqrt(residuals / (n * (n - 1))) / (total / n)
    return Estimate(
        value=ratio,
        standard_error=standard_error,
        half_width=t_quantile(n - 1) * standard_error,
        num_observations=n,
    )


def t_quantile(degrees_of_freedom: int) -> float:
    """Return the factor from standard error to half-width: Student's t at (1 + CONFIDENCE) / 2."""
    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
