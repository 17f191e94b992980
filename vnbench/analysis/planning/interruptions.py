"""What interruptions cost a run, with snapshots and without, and how often to take a snapshot.

Symbols of the sources, all in seconds: ``work_s`` Ts, the run without any interruption; ``interval_s`` tau, work
between snapshots; ``snapshot_s`` delta, the cost of one; ``restart_s`` R, from an interruption to the first step after
it; ``mtbi_s`` M, the mean time between interruptions.

Sources: Young, A first order approximation to the optimum checkpoint interval, Communications of the ACM 17 (1974),
page 530; Daly, A higher order estimate of the optimum checkpoint interval for restart dumps, Future Generation
Computer Systems 22 (2006), pages 303 to 312. The forms for a number of interruptions are derived where they stand.
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
"""Uniform numbers whose sum is not yet taken for a normal one."""

NUM_KNOTS = 20_001
"""Points at which the distribution of a sum of uniform numbers is tabulated."""

MAX_INTERRUPTIONS = 100_000
"""Interruptions of one simulated run beyond which it is taken never to finish."""


def young_interval_s(*, snapshot_s: float, mtbi_s: float) -> float:
    """Return sqrt(2 delta M): the result of Young (1974), page 530."""
    return math.sqrt(2 * snapshot_s * mtbi_s)


def daly_interval_s(*, snapshot_s: float, mtbi_s: float) -> float:
    """Return Daly's higher-order estimate (2006, equation 37).

    sqrt(2 delta M) (1 + sqrt(delta / 2M) / 3 + (delta / 2M) / 9) - delta for delta < 2M, and M beyond.
    """
    if snapshot_s >= 2 * mtbi_s:
        return mtbi_s
    share = snapshot_s / (2 * mtbi_s)
    return math.sqrt(2 * snapshot_s * mtbi_s) * (1 + math.sqrt(share) / 3 + share / 9) - snapshot_s


def best_interval_s(*, snapshot_s: float, mtbi_s: float) -> float:
    """Return the interval that minimises ``expected_time_s``: M (1 + W0(-exp(-delta / M - 1))).

    Setting the derivative of exp((tau + delta) / M) / tau - 1 / tau to zero gives (1 - tau / M) exp((tau + delta) / M)
    = 1, which Lambert's function solves. It does not depend on the work nor on the restart.
    """
    return mtbi_s * (1 + float(lambertw(-math.exp(-snapshot_s / mtbi_s - 1)).real))


def expected_time_s(*, work_s: float, interval_s: float, snapshot_s: float, restart_s: float, mtbi_s: float) -> float:
    """Return the mean time of a run that snapshots after every interval: the complete cost function of Daly (2006).

    M exp(R / M) (exp((tau + delta) / M) - 1) Ts / tau, for interruptions that come at random, in restarts too.
    Infinite where it is no number any more.
    """
    try:
        growth = math.exp(restart_s / mtbi_s) * math.expm1((interval_s + snapshot_s) / mtbi_s)
    except OverflowError:
        return math.inf
    return mtbi_s * growth * work_s / interval_s


def expected_time_without_snapshots_s(*, work_s: float, restart_s: float, mtbi_s: float) -> float:
    """Return the mean time of a run that starts anew at every interruption: one interval of all work, no snapshot."""
    return expected_time_s(work_s=work_s, interval_s=work_s, snapshot_s=0.0, restart_s=restart_s, mtbi_s=mtbi_s)


def best_interval_of_count_s(*, work_s: float, snapshot_s: float, num_interruptions: int, is_worst: bool) -> float:
    """Return the interval that minimises the mean, or the worst, time of a run with so many interruptions.

    Of Ts (1 + delta / tau) + k (tau / 2 + R) in the mean, sqrt(2 Ts delta / k); of Ts (1 + delta / tau) + k (tau +
    delta + R) at worst, sqrt(Ts delta / k). Without any interruption it is all work.
    """
    if num_interruptions == 0:
        return work_s
    return min(work_s, math.sqrt((1 if is_worst else 2) * work_s * snapshot_s / num_interruptions))


def rounded_interval_s(interval_s: float, *, step_s: float, work_s: float) -> float:
    """Return an interval as a whole number of steps, at least one and at most all work."""
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
    """Return finish times of runs with exactly so many interruptions, at uniformly random moments; (N,), seconds.

    ``interval_s`` None means no snapshots: an interruption then loses all that was done. ``probabilities_N`` tell of
    each run how lucky it is: the share of runs whose interruptions lose less.
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
    """Return quantiles of the sum of so many uniform numbers between 0 and 1; (N,).

    Their density is the B-spline of degree count - 1 on whole knots (the distribution of Irwin and Hall, 1927); the sum
    of more than MAX_EXACT is a normal one for all that matters.
    """
    if count == 0:
        return np.zeros_like(probabilities_N)
    if count > MAX_EXACT:
        normal: NDArray[np.float64] = count / 2 + math.sqrt(count / 12) * ndtri(probabilities_N)
        return normal
    return np.interp(probabilities_N, _probabilities_of_sum(count), np.linspace(0, count, NUM_KNOTS))


@functools.lru_cache(maxsize=MAX_EXACT)
def _probabilities_of_sum(count: int) -> NDArray[np.float64]:
    """Return the probabilities that the sum of uniform numbers is at most each of NUM_KNOTS even steps from 0."""
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
    """Return finish times of runs that are interrupted at random, exponentially with this mean; (N,), seconds.

    Restarts can be interrupted too. A run that takes longer than ``give_up_s``, or has more than MAX_INTERRUPTIONS,
    finishes at infinity. ``interval_s`` None means no snapshots.
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
        until_N = random.exponential(mtbi_s, len(active_N))
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


def _with_snapshots(work_s: float | Seconds, interval_s: float, snapshot_s: float) -> float | Seconds:
    """Return the time of some work with its snapshots; none is taken after the last interval."""
    return work_s + snapshot_s * (np.ceil(work_s / interval_s) - 1)
