"""Decide which of several configurations may be the fastest, with one error rate for all comparisons."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import chdtri, ndtr, stdtr

from vnbench.analysis.statistics.estimate import CONFIDENCE
from vnbench.analysis.statistics.ratio import Ratio

NUM_NODES = 2_000
"""Number of equal shares of probability over which the uncertainty of the spread is averaged."""


def confidence(distance: float, *, num_others: int, degrees_of_freedom: float) -> float:
    """Return the chance that the truly best is not called slower than any other, with ``distance`` as the limit d.

    It is for one-sided comparisons of ``num_others`` means with another mean of equal variance, if all share one
    estimate of the standard error: P(max((Z_k - Z_0) / sqrt(2)) <= d S), with S^2 distributed as chi^2_f / f
    (Dunnett, A multiple comparison procedure for comparing several treatments with a control, Journal of the American
    Statistical Association 50, 1955; for the best: Hsu, Multiple Comparisons, 1996, chapter 4).
    """
    shares = (np.arange(NUM_NODES) + 0.5) / NUM_NODES
    freedom = degrees_of_freedom
    # The argument of chdtri is the probability of the upper tail.
    scales_S = np.ones(1) if math.isinf(freedom) else np.sqrt(chdtri(freedom, shares) / freedom)
    nodes_Z, weights_Z = np.polynomial.hermite_e.hermegauss(60)
    inside_SZ = ndtr(math.sqrt(2) * distance * scales_S[:, None] + nodes_Z[None, :]) ** num_others
    return float((inside_SZ @ (weights_Z / weights_Z.sum())).mean())


def may_be_fastest(ratio: Ratio, *, num_others: int) -> bool:
    """Return whether a configuration may be as fast as the one that was measured fastest.

    ``ratio`` is its speed over the fastest one's; ``num_others`` is the number of configurations compared this way.
    """
    log = ratio.log
    if log.se is None or log.value >= 0:
        return True
    if log.se == 0:
        return False
    distance, freedom = -log.value / log.se, log.dof
    # The chances of all single comparisons together bound it (Bonferroni), and decide most cases.
    if num_others * stdtr(freedom, -distance) < 1 - CONFIDENCE:
        return False
    # The limit itself would take a root for each number of degrees of freedom.
    return confidence(distance, num_others=num_others, degrees_of_freedom=freedom) <= CONFIDENCE
