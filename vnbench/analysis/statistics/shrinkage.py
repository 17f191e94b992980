"""Variances of many rows, each lent some of what the others say: few processes per row, yet an honest interval.

The empirical Bayes estimate of Smyth (Linear models and empirical Bayes methods for assessing differential expression,
Statistical Applications in Genetics and Molecular Biology 3, 2004, article 3, section 6.2): the rows' variances are
taken as draws from one scaled inverse chi-squared distribution, whose scale and weight follow from how much the rows
differ. Where all rows are equally noisy a row with three processes gains the certainty of the others; where they are
not, next to nothing is lent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import polygamma, psi

MIN_ROWS = 5
"""Rows below which the spread of their variances is not known well enough to lend anything."""

MAX_WEIGHT = 4.0
"""Most that the prior counts against a row's own degrees of freedom. Without it two processes of a noisy row beside
many quiet ones raise a false alarm in 2 % of comparisons where a process in thirty is slowed (simulated)."""

SMALLEST_SHARE = 1e-5
"""Of the median variance; rows whose processes agree by chance to the last digit say no more than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """What the other rows say of the variance of one."""

    variance: float
    """Their typical variance."""
    degrees_of_freedom: float
    """On how many observations of the row's own this counts; infinite where the rows do not differ."""
    observed: float
    """Degrees of freedom of all rows together."""


def fit_prior(variances: Sequence[float], degrees_of_freedom: Sequence[float]) -> Prior | None:
    """Return the prior of rows' variances (Smyth 2004, equations of section 6.2); None with too few rows.

    All degrees of freedom are positive.
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
    """Return a row's variance with what the prior lends it, never below its own, and its degrees of freedom.

    A row that is noisier than the others keeps its noise: the plain average would take a process that hung for a while
    for a change of the code.
    """
    if prior is None:
        return variance, degrees_of_freedom
    lent = min(prior.degrees_of_freedom, MAX_WEIGHT * degrees_of_freedom)
    total = lent + degrees_of_freedom
    shrunk = (lent * prior.variance + degrees_of_freedom * variance) / total
    return max(variance, shrunk), min(total, prior.observed)


def _inverse_trigamma(value: float) -> float:
    """Return the x at which the trigamma function, which falls from infinity to 0, has this value."""
    # x lies between 1 / value and 1 / value + 1 / sqrt(value), as 1/x < trigamma(x) < 1/x + 1/x^2.
    low, high = 1 / value, 1 / value + 1 / math.sqrt(value) + 1
    return float(brentq(lambda x: float(polygamma(1, x)) - value, low, high))
