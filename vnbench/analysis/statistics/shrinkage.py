"""Estimate the variances of many rows together, so that rows with few processes get reliable intervals.

This is the empirical Bayes estimate of Smyth (Linear models and empirical Bayes methods for assessing differential
expression, Statistical Applications in Genetics and Molecular Biology 3, 2004, article 3, section 6.2). The variances
of the rows are taken as draws from one scaled inverse chi-squared distribution. Its scale and weight follow from the
differences between the rows. If all rows are equally noisy, a row with three processes gains the certainty of the
others; if they are not, it gains almost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import polygamma, psi

MIN_ROWS = 5
"""Fewest rows from which the spread of their variances can be estimated."""

MAX_WEIGHT = 4.0
"""Largest weight of the prior, as a multiple of a row's own degrees of freedom. Without this limit, two processes of a
noisy row beside many quiet rows give a false alarm in 2 % of comparisons if one process in thirty is slowed
(simulated)."""

SMALLEST_SHARE = 1e-5
"""Smallest variance of a row as a share of the median: processes may agree to the last digit by chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """The prior of a row's variance, from all rows."""

    variance: float
    """Typical variance of the rows."""
    degrees_of_freedom: float
    """Weight of the prior in degrees of freedom; infinite if the variances of the rows do not differ."""
    observed: float
    """Total degrees of freedom of all rows."""


def fit_prior(variances: Sequence[float], degrees_of_freedom: Sequence[float]) -> Prior | None:
    """Return the prior of the rows' variances (Smyth 2004, section 6.2); None with fewer than MIN_ROWS rows.

    All degrees of freedom must be positive.
    """
    median = float(np.median(variances)) if variances else 0.0
    if len(variances) < MIN_ROWS or median <= 0:
        return None
    freedoms_R = np.array(degrees_of_freedom, dtype=np.float64)
    floored_R = np.maximum(np.array(variances), SMALLEST_SHARE * median)
    logs_R = np.log(floored_R) - psi(freedoms_R / 2) + np.log(freedoms_R / 2)
    excess = float(logs_R.var(ddof=1) - polygamma(1, freedoms_R / 2).mean())
    observed = float(freedoms_R.sum())
    if excess <= 0:
        pooled = float((floored_R * freedoms_R).sum() / observed)
        return Prior(variance=pooled, degrees_of_freedom=math.inf, observed=observed)
    half = _inverse_trigamma(excess)
    scale = math.exp(float(logs_R.mean()) + float(psi(half)) - math.log(half))
    return Prior(variance=scale, degrees_of_freedom=2 * half, observed=observed)


def shrink(prior: Prior | None, *, variance: float, degrees_of_freedom: float) -> tuple[float, float]:
    """Return a row's variance after shrinkage towards the prior, never below its own, and its degrees of freedom.

    A row that is noisier than the others keeps its variance: with the plain average, a process that hung for a while
    would look like a change of the code.
    """
    if prior is None:
        return variance, degrees_of_freedom
    lent = min(prior.degrees_of_freedom, MAX_WEIGHT * degrees_of_freedom)
    total = lent + degrees_of_freedom
    shrunk = (lent * prior.variance + degrees_of_freedom * variance) / total
    return max(variance, shrunk), min(total, prior.observed)


def _inverse_trigamma(value: float) -> float:
    """Return the x with trigamma(x) = value; the trigamma function falls from infinity to 0."""
    # x lies between 1 / value and 1 / value + 1 / sqrt(value), because 1/x < trigamma(x) < 1/x + 1/x^2.
    low, high = 1 / value, 1 / value + 1 / math.sqrt(value) + 1
    return float(brentq(lambda x: float(polygamma(1, x)) - value, low, high))
