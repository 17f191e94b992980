"""Compute means and ratios of sums over the steps of one process, with their 95 % intervals.

These intervals cover the variation between the steps of one process: the mix of image sizes and the noise from step to
step. They do not cover differences between processes, such as memory layout, clocks and other programs; only replicates
show those. Steps count as independent draws, without a correction for a finite epoch. If consecutive steps are
correlated, ``correlated_ratio_of_sums`` uses groups of them instead.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from statistics import quantiles

from vnbench.analysis.statistics.estimate import Estimate

CORRELATION_BOUND = 1.645
"""The lag-1 correlation of n independent values exceeds this over sqrt(n) once in twenty times (one-sided normal)."""

MIN_GROUPS = 5
"""Fewest groups that show their own spread well enough: Student's t is 2.8 with 4 degrees of freedom, 4.3 with 2."""

MIN_FOR_FENCES = 5
"""Fewest values for quartiles that are not dominated by an outlier."""

OUTLIER_FLOOR = 0.1
"""Deviation from the median, as a share of it, up to which no value is an outlier, however close the others are."""


def mean(values: Sequence[float]) -> Estimate:
    """Return the arithmetic mean, with s / sqrt(n) as its standard error; a single value has no error.

    Raises:
        ValueError: there are no values, or a value is not finite.
    """
    return ratio_of_sums(values, [1.0] * len(values))


def ratio_of_sums(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Return R = sum(y) / sum(x) over paired observations, in the unit of y per unit of x.

    The standard error is that of the linearised ratio, sqrt(sum((y - R x)^2) / (n (n - 1))) / mean(x), without the
    correction for a finite population: Cochran, Sampling Techniques (3rd edition, 1977), section 2.11 and chapter 6. A
    single pair has no error. The error is correct to first order and tends to be too small with few pairs: Cochran's
    working rule (chapter 6) asks for n > 30 and coefficients of variation of both means below 10 %. The relative
    half-width of x per y equals that of y per x.

    Raises:
        ValueError: there are no pairs, the lengths differ, a value is not finite, or the denominators sum to zero or
            less.
    """
    n = len(numerators)
    if n == 0 or len(denominators) != n:
        raise ValueError(f"{n} numerators and {len(denominators)} denominators: pairs are needed, at least one")
    above, total = math.fsum(numerators), math.fsum(denominators)
    if not (math.isfinite(above) and math.isfinite(total)):
        raise ValueError("a numerator or denominator is not finite")
    if total <= 0:
        raise ValueError(f"denominators sum to {total}: a positive sum is needed")
    ratio = above / total
    if n < 2:
        return Estimate(value=ratio, dof=0)
    residuals = math.fsum([(y - ratio * x) ** 2 for y, x in zip(numerators, denominators, strict=True)])
    return Estimate(value=ratio, se=math.sqrt(residuals / (n * (n - 1))) / (total / n), dof=n - 1)


def correlated_ratio_of_sums(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Return ``ratio_of_sums`` of observations in time order, with an error that allows for correlation.

    If consecutive residuals y - R x are correlated (lag-1 correlation above CORRELATION_BOUND / sqrt(n)), consecutive
    observations are summed into groups of two, four, eight and so on, until the groups' residuals are not correlated or
    fewer than twice MIN_GROUPS groups are left. This is the method of batch means (Law, Simulation Modeling and
    Analysis, 5th edition, 2015, section 9.5.3). ``dof`` is the number of groups minus one.

    Raises:
        ValueError: as for ratio_of_sums.
    """
    estimate = ratio_of_sums(numerators, denominators)
    y, x = list(numerators), list(denominators)
    is_last = False
    while len(y) >= 2 * MIN_GROUPS and not is_last:
        is_alike = _lag_1_correlation(y, x, estimate.value) > CORRELATION_BOUND / math.sqrt(len(y))
        if not is_alike and len(y) == len(numerators):
            break
        # A remaining correlation that is too weak to detect still narrows the interval, so go one step further.
        is_last = not is_alike
        y, x = _pair_sums(y), _pair_sums(x)
        estimate = ratio_of_sums(y, x)
    return estimate


def repeated_ratio_of_sums(
    numerators: Sequence[float], denominators: Sequence[float], *, kinds: Sequence[Hashable]
) -> Estimate:
    """Return the ratio of sums, with an error from the differences between observations of the same kind.

    The residual of an observation is its difference from the mean of its kind, with correlation handled as in
    correlated_ratio_of_sums. Differences between kinds are not part of the error. Each kind costs a degree of freedom.
    The error is None if no observation was repeated.

    Raises:
        ValueError: as for ratio_of_sums, or the number of kinds differs.
    """
    estimate = ratio_of_sums(numerators, denominators)
    values_of: dict[Hashable, list[float]] = {}
    for kind, value in zip(kinds, numerators, strict=True):
        values_of.setdefault(kind, []).append(value)
    n, freedom = len(kinds), len(kinds) - len(values_of)
    if freedom == 0 or estimate.value <= 0:
        return Estimate(value=estimate.value, dof=0)
    expected = [math.fsum(values_of[kind]) / len(values_of[kind]) for kind in kinds]
    residual = correlated_ratio_of_sums(numerators, expected)
    assert residual.se is not None
    # Grouping reduces the degrees of freedom in proportion.
    left = max(1, round(freedom * (residual.dof + 1) / n))
    se = estimate.value * residual.se * math.sqrt((n - 1) / freedom)
    return Estimate(value=estimate.value, se=se, dof=left)


def find_outliers(values: Sequence[float]) -> tuple[bool, ...]:
    """Return for each value whether it is an outlier: outside Tukey's outer fences, and beyond OUTLIER_FLOOR.

    The outer fences lie three interquartile ranges outside the quartiles (Tukey, Exploratory Data Analysis, 1977,
    section 2E). With fewer than MIN_FOR_FENCES values, none is an outlier.
    """
    if len(values) < MIN_FOR_FENCES:
        return (False,) * len(values)
    low, median, high = quantiles(values, n=4, method="inclusive")
    reach = max(3 * (high - low), OUTLIER_FLOOR * abs(median))
    return tuple(
        not (low - reach <= value <= high + reach) and abs(value - median) > OUTLIER_FLOOR * abs(median)
        for value in values
    )


def _lag_1_correlation(y: Sequence[float], x: Sequence[float], ratio: float) -> float:
    residuals = [b - ratio * a for a, b in zip(x, y, strict=True)]
    square = math.fsum([value * value for value in residuals])
    return math.fsum([a * b for a, b in itertools.pairwise(residuals)]) / square if square > 0 else 0.0


def _pair_sums(values: Sequence[float]) -> list[float]:
    """Return the sums of consecutive pairs; an odd last value joins the last pair."""
    sums = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
    if len(values) % 2:
        sums[-1] += values[-1]
    return sums
