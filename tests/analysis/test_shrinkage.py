from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import polygamma

from vnbench.analysis.statistics.shrinkage import MAX_WEIGHT, Prior, fit_prior, shrink


def drawn_variances(*, rows: int, freedom: int, prior_freedom: float, scale: float, seed: int) -> list[float]:
    """Return variances of rows whose true ones are scaled inverse chi-squared, as the estimate takes them to be."""
    random = np.random.default_rng(seed)
    true = (
        np.full(rows, scale)
        if math.isinf(prior_freedom)
        else scale * prior_freedom / random.chisquare(prior_freedom, rows)
    )
    drawn: list[float] = (true * random.chisquare(freedom, rows) / freedom).tolist()
    return drawn


def test_the_scale_and_the_weight_of_a_known_prior_are_found() -> None:
    variances = drawn_variances(rows=4000, freedom=4, prior_freedom=6.0, scale=2.0, seed=0)
    prior = fit_prior(variances, [4.0] * 4000)
    assert prior is not None
    assert prior.degrees_of_freedom == pytest.approx(6.0, rel=0.15)
    assert prior.variance == pytest.approx(2.0, rel=0.05)


def test_rows_that_are_equally_noisy_are_pooled() -> None:
    variances = drawn_variances(rows=4000, freedom=4, prior_freedom=math.inf, scale=2.0, seed=1)
    prior = fit_prior(variances, [4.0] * 4000)
    assert prior is not None
    assert prior.degrees_of_freedom > 100
    assert prior.variance == pytest.approx(2.0, rel=0.05)
    assert prior.observed == 16_000


def test_the_weight_solves_its_equation() -> None:
    # Five rows of each of two variances. Of the variance of their logarithms, trigamma(1 / 2) = pi^2 / 2 is
    # the noise of one degree of freedom; trigamma(d0 / 2) is the rest.
    logs = [0.0] * 5 + [8.0] * 5
    prior = fit_prior([math.exp(one) for one in logs], [1.0] * 10)
    assert prior is not None
    excess = float(np.var(logs, ddof=1)) - math.pi**2 / 2
    assert float(polygamma(1, prior.degrees_of_freedom / 2)) == pytest.approx(excess, rel=1e-6)


def test_too_few_rows_lend_nothing() -> None:
    assert fit_prior([1.0, 2.0, 3.0, 4.0], [2.0] * 4) is None
    assert fit_prior([], []) is None
    assert fit_prior([0.0] * 10, [2.0] * 10) is None
    assert shrink(None, variance=3.0, degrees_of_freedom=2.0) == (3.0, 2.0)


def test_a_quiet_row_is_lent_noise_and_a_noisy_one_keeps_its_own() -> None:
    prior = Prior(variance=1.0, degrees_of_freedom=4.0, observed=100.0)
    assert shrink(prior, variance=0.1, degrees_of_freedom=4.0) == (pytest.approx(0.55), 8.0)
    assert shrink(prior, variance=9.0, degrees_of_freedom=4.0) == (9.0, 8.0)


def test_the_prior_counts_no_more_than_its_share_and_no_more_than_was_observed() -> None:
    sure = Prior(variance=1.0, degrees_of_freedom=math.inf, observed=1000.0)
    _, freedom = shrink(sure, variance=1.0, degrees_of_freedom=2.0)
    assert freedom == 2.0 * (1 + MAX_WEIGHT)
    _, freedom = shrink(
        Prior(variance=1.0, degrees_of_freedom=math.inf, observed=7.0), variance=1.0, degrees_of_freedom=2.0
    )
    assert freedom == 7.0
