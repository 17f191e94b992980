"""Compute the cost of interruptions with and without snapshots, and the best interval between snapshots.

Symbols in the sources, all in seconds: ``work_s`` is Ts, the run without interruptions; ``interval_s`` is tau, the work
between snapshots; ``snapshot_s`` is delta, the cost of a snapshot; ``restart_s`` is R, the time from an interruption to
the next step; ``mtbi_s`` is M, the mean time between interruptions.

Sources: Young, A first order approximation to the optimum checkpoint interval, Communications of the ACM 17 (1974),
page 530; Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, Future Generation
Computer Systems 22 (2006), pages 303 to 312. The formulas for a fixed number of interruptions are derived in their
functions.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.special import lambertw, ndtri

Seconds = NDArray[np.float64]

MAX_EXACT = 64
"""Most uniform numbers whose sum is computed exactly; above this it is taken as normal."""

NUM_KNOTS = 20_001
"""Number of points at which the distribution of a sum of uniform numbers is tabulated."""

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

MAX_INTERRUPTIONS = 100_000
"""Most interruptions of one simulated run; with more it counts as never finishing."""


def young_interval_s(*, snapshot_s: float, mtbi_s: float) -> float:
    """Return Young's interval, sqrt(2 delta M) (1974, page 530)."""
    return math.sqrt(2 * snapshot_s * mtbi_s)


def daly_interval_s(*, snapshot_s: float, mtbi_s: float) -> float:
    """Return Daly's higher-order estimate (2006, equation 37).

    It is sqrt(2 delta M) (1 + sqrt(delta / 2M) / 3 + (delta / 2M) / 9) - delta if delta < 2M, else M.
    """
    if snapshot_s >= 2 * mtbi_s:
        return mtbi_s
    share = snapshot_s / (2 * mtbi_s)
    return math.sqrt(2 * snapshot_s * mtbi_s) * (1 + math.sqrt(share) / 3 + share / 9) - snapshot_s


def best_interval_s(*, snapshot_s: float, mtbi_s: float) -> float:
    """Return the interval that minimises ``expected_time_s``: M (1 + W0(-exp(-delta / M - 1))).

    Setting the derivative of exp((tau + delta) / M) / tau - 1 / tau to zero gives (1 - tau / M) exp((tau + delta) / M)
    = 1, which Lambert's W function solves. The interval depends neither on the work nor on the restart.
    """
    return mtbi_s * (1 + float(lambertw(-math.exp(-snapshot_s / mtbi_s - 1)).real))


def expected_time_s(*, work_s: float, interval_s: float, snapshot_s: float, restart_s: float, mtbi_s: float) -> float:
    """Return the mean time of a run with a snapshot after every interval: the complete cost function of Daly (2006).

    It is M exp(R / M) (exp((tau + delta) / M) - 1) Ts / tau, for random interruptions, which may also hit restarts.
    Infinity if it overflows.
    """
    try:
        growth = math.exp(restart_s / mtbi_s) * math.expm1((interval_s + snapshot_s) / mtbi_s)
    except OverflowError:
        return math.inf
    return mtbi_s * growth * work_s / interval_s


def expected_time_without_snapshots_s(*, work_s: float, restart_s: float, mtbi_s: float) -> float:
    """Return the mean time of a run that starts again after every interruption: one interval, without a snapshot."""
    return expected_time_s(work_s=work_s, interval_s=work_s, snapshot_s=0.0, restart_s=restart_s, mtbi_s=mtbi_s)


def best_interval_of_count_s(*, work_s: float, snapshot_s: float, num_interruptions: int, is_worst: bool) -> float:
    """Return the interval that minimises the mean or the worst-case time of a run with k ``num_interruptions``.

    The mean time, Ts (1 + delta / tau) + k (tau / 2 + R), is least at tau = sqrt(2 Ts delta / k). The worst-case time,
    Ts (1 + delta / tau) + k (tau + delta + R), is least at tau = sqrt(Ts delta / k). Without interruptions, the
    interval is the whole work.
    """
    if num_interruptions == 0:
        return work_s
    return min(work_s, math.sqrt((1 if is_worst else 2) * work_s * snapshot_s / num_interruptions))


def rounded_interval_s(interval_s: float, *, step_s: float, work_s: float) -> float:
    """Return an interval, in seconds, rounded to a whole number of steps: at least one, at most the whole work."""
    return min(work_s, max(1, round(interval_s / step_s)) * step_s)


def simulate_count_s(
    work_N: Seconds,
    *,
    interval_s: float | None,
    snapshot_s: float,
    restart_s: float,
    num_interruptions: int,
    probabilities_N: NDArray[np.float64],
) -> Seconds:
    """Return finish times, (N,) in seconds, of runs with ``num_interruptions`` at uniformly random moments.

    ``interval_s`` None means no snapshots: an interruption then loses all work. ``probabilities_N`` gives the luck of
    each run: the share of runs that lose less by interruptions.
    """
    shares_N = sum_of_uniforms(probabilities_N, num_interruptions)
    if interval_s is None:
        without: Seconds = work_N * (1 + shares_N) + num_interruptions * restart_s
        return without
    round_s = interval_s + snapshot_s
    snapshots_N = snapshot_s * (np.ceil(work_N / interval_s) - 1)
    total: Seconds = work_N + snapshots_N + round_s * shares_N + num_interruptions * restart_s
    return total


def sum_of_uniforms(probabilities_N: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return quantiles, (N,), of the sum of ``count`` uniform numbers between 0 and 1.

    The density of the sum is the B-spline of degree count - 1 on integer knots (the distribution of Irwin and Hall,
    1927). The sum of more than MAX_EXACT numbers is taken as normal.
    """
    if count == 0:
        return np.zeros_like(probabilities_N)
    if count > MAX_EXACT:
        normal: NDArray[np.float64] = count / 2 + math.sqrt(count / 12) * ndtri(probabilities_N)
        return normal
    return np.interp(probabilities_N, _probabilities_of_sum(count), np.linspace(0, count, NUM_KNOTS))


@functools.lru_cache(maxsize=MAX_EXACT)
def _probabilities_of_sum(count: int) -> NDArray[np.float64]:
    """Return P(sum of uniform numbers <= x) at NUM_KNOTS evenly spaced x from 0 to ``count``."""
    density = BSpline.basis_element(np.arange(count + 1.0), extrapolate=False)
    reached = density.antiderivative()(np.linspace(0, count, NUM_KNOTS))
    probabilities: NDArray[np.float64] = (reached - reached[0]) / (reached[-1] - reached[0])
    probabilities.setflags(write=False)
    return probabilities


def simulate_s(
    work_N: Seconds,
    *,
    interval_s: float | None,
    snapshot_s: float,
    restart_s: float,
    mtbi_s: float,
    random: np.random.Generator,
    give_up_s: float = math.inf,
) -> Seconds:
    """Return finish times, (N,) in seconds, of runs with exponentially distributed times between interruptions.

    The runs are drawn together: at each interruption they are sorted, and neighbours draw evenly (L'Ecuyer, Lecot and
    Tuffin, A randomized quasi-Monte Carlo simulation method for Markov chains, Operations Research 56 (2008)). With
    8,192 runs their median is exact to 0.15 % with snapshots, and to 0.3 % of runs that lose all of their work.

    Restarts can be interrupted too. A run that is interrupted after ``give_up_s``, or has MAX_INTERRUPTIONS, gets an
    infinite finish time. ``interval_s`` None means no snapshots.
    """
    remaining_N = work_N.astype(np.float64).copy()
    finish_N = np.zeros(len(work_N))
    active_N = np.arange(len(work_N))
    overhead_s = 0.0
    for _ in range(MAX_INTERRUPTIONS):
        if not len(active_N):
            return finish_N
        left_N = remaining_N[active_N]
        needed_N = overhead_s + (left_N if interval_s is None else _with_snapshots(left_N, interval_s, snapshot_s))
        # Runs that are to end alike get times that are spread evenly.
        until_N = np.empty_like(left_N)
        until_N[np.argsort(finish_N[active_N] + left_N)] = -mtbi_s * np.log1p(-_even_points(len(left_N), random))
        is_done_N = until_N >= needed_N
        finish_N[active_N] += np.minimum(until_N, needed_N)
        if interval_s is not None:
            rounds_N = np.floor(np.maximum(0.0, until_N - overhead_s) / (interval_s + snapshot_s))
            remaining_N[active_N] = np.where(is_done_N, 0.0, left_N - rounds_N * interval_s)
        overhead_s = restart_s
        is_lost_N = ~is_done_N & (finish_N[active_N] > give_up_s)
        finish_N[active_N[is_lost_N]] = math.inf
        active_N = active_N[~is_done_N & ~is_lost_N]
    finish_N[active_N] = math.inf
    return finish_N


def _even_points(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return the multiples of the golden ratio, shifted at random, modulo 1: any stretch of them is spread evenly."""
    points: NDArray[np.float64] = (np.arange(count, dtype=np.float64) * GOLDEN_RATIO + random.random()) % 1
    return points


def _with_snapshots(work_s: float | Seconds, interval_s: float, snapshot_s: float) -> float | Seconds:
    """Return the time of work with its snapshots; there is no snapshot after the last interval."""
    return work_s + snapshot_s * (np.ceil(work_s / interval_s) - 1)
