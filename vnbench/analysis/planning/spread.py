"""The distribution of a run's finish: what is not known of its work, and what interruptions add, by quasi-Monte Carlo.

Each part of the uncertainty has a distribution of its own: coefficients and what is particular to sizes Student's t
with the fit's degrees of freedom, what is particular to the process the same with those of the spread between
processes, loading the same with those of its own error, interruptions that of the moments at which they come. Draws are
points of a Sobol sequence, one dimension for each part: in every part each of NUM_DRAWS equal shares of probability is
drawn once, and any two or more parts meet evenly. The share of a part is the variance with it alone over the sum of
all.

Source: Sobol, On the distribution of points in a cube and the approximate evaluation of integrals, USSR Computational
Mathematics and Mathematical Physics 7 (1967), pages 86 to 112; shifted digit by digit by the seed.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import qmc

from vnbench.analysis.models.run_time import RunTime
from vnbench.analysis.models.step_fit import ROUGH_DEGREES_OF_FREEDOM, ROUGH_SIZE_ERROR
from vnbench.analysis.planning.interruptions import (
    expected_time_s,
    expected_time_without_snapshots_s,
    simulate_count_s,
    simulate_s,
)
from vnbench.analysis.statistics.estimate import Estimate

Seconds = NDArray[np.float64]

Part = Literal["coefficients", "sizes", "processes", "loading", "interruptions"]
PARTS: tuple[Part, ...] = get_args(Part)

LOG2_DRAWS = 13

NUM_DRAWS = 2**LOG2_DRAWS
"""Draws of a run; with 10 % of spread its median is known to 0.02 % and its 90th percentile to 0.06 %, twice as well as
from 40,000 random ones."""

PERCENTILES = (10, 50, 90)

PROBABILITIES: Seconds = (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS
"""Of the draws by rank."""

GIVE_UP = 20.0
"""Times its work after which a run is taken never to finish."""

SMALLEST_FACTOR = 0.2
"""A run does not take less than this share of its forecast, however wide the tails of its errors are drawn."""


RESTART_S = 300.0
"""Somebody or something has to notice that the machine is back; the start itself takes seconds."""

SNAPSHOT_S = 2.0
"""Weights and optimizer state of a hundred megabytes on a plain disk, with room to spare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interruptions:
    """What a run is interrupted by, and what that costs."""

    count: int | None = None
    """Exactly so many; None where mtbi_s says how often."""
    mtbi_s: float | None = None
    """Mean time between interruptions in seconds, at random."""
    restart_s: float = RESTART_S
    """From an interruption to the first step after it."""
    snapshot_s: float = SNAPSHOT_S
    """What one snapshot costs."""

    @property
    def is_none(self) -> bool:
        """Whether nothing interrupts the run."""
        return not self.count and self.mtbi_s is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """When a run finishes, in seconds after its start."""

    p10: float
    """In one of ten cases earlier than this."""
    p50: float
    """As often earlier as later."""
    p90: float
    """In one of ten cases later; infinite where so many never finish."""
    mean: float
    """Expected time; infinite where some never finish."""
    probability: float | None
    """Share of the draws that finish inside the window; None without a window."""


def draw_work_s(run: RunTime, *, seed: int, parts: frozenset[Part]) -> Seconds:
    """Return draws of the seconds of a run without interruptions, with the errors of some parts; (NUM_DRAWS,).

    Draw i has the same luck in every configuration, so that they compare alike.
    """

    def errors(scale: float, dof: float, part: Part) -> Seconds:
        return scale * quantiles_of(dof)[ranks_of(seed)[part]] if part in parts and scale else np.zeros(NUM_DRAWS)

    computing = run.computing
    computing_N = run.epoch.computing_s * np.maximum(
        SMALLEST_FACTOR,
        1
        + errors(computing.coefficients, computing.dof, "coefficients")
        + errors(computing.sizes, computing.dof, "sizes")
        + errors(computing.processes, computing.processes_dof, "processes"),
    )
    loading = drawn_loading(run)
    loading_N = loading.value * np.maximum(
        SMALLEST_FACTOR, 1 + errors(loading.relative_error or 0.0, loading.dof, "loading")
    )
    return run.once_s + run.num_epochs * run.epoch_of(computing_s=computing_N, loading_s=loading_N).total_s


def drawn_loading(run: RunTime) -> Estimate:
    """Return the seconds of an epoch that loading takes, with the error that it is drawn with; 0 if not measured.

    Where nothing tells the error, a tenth is taken, as for a step whose sizes are too few to tell theirs.
    """
    loading = run.loading or Estimate(value=0.0, se=0.0)
    if loading.se is None:
        return Estimate(value=loading.value, se=ROUGH_SIZE_ERROR * loading.value, dof=ROUGH_DEGREES_OF_FREEDOM)
    return loading


def finish_of(
    run: RunTime,
    interruptions: Interruptions,
    *,
    interval_s: float | None,
    window_s: float | None,
    seed: int,
) -> Finish:
    """Return when a run finishes that snapshots after every interval, or never with ``interval_s`` None."""
    finish_N = _finish_s(run, interruptions, interval_s, seed=seed, parts=frozenset(PARTS))
    low, middle, high = np.percentile(finish_N, PERCENTILES, method="higher").tolist()
    return Finish(
        p10=low,
        p50=middle,
        p90=high,
        mean=float(finish_N.mean()),
        probability=None if window_s is None else float((finish_N <= window_s).mean()),
    )


def shares_of(run: RunTime, interruptions: Interruptions, *, interval_s: float | None, seed: int) -> dict[Part, float]:
    """Return the share of each part in the variance of the finish; empty where it has none, or no finite one."""
    variances = {
        part: _variance(_finish_s(run, interruptions, interval_s, seed=seed, parts=frozenset({part}))) for part in PARTS
    }
    total = sum(variances.values())
    return {part: variance / total for part, variance in variances.items()} if 0 < total < math.inf else {}


def _finish_s(
    run: RunTime,
    interruptions: Interruptions,
    interval_s: float | None,
    *,
    seed: int,
    parts: frozenset[Part],
) -> Seconds:
    work_N = draw_work_s(run, seed=seed, parts=parts)
    if "interruptions" not in parts or interruptions.is_none:
        return work_N if interval_s is None else work_N + interruptions.snapshot_s * (np.ceil(work_N / interval_s) - 1)
    if interruptions.count is not None:
        return simulate_count_s(
            work_N,
            interval_s=interval_s,
            snapshot_s=interruptions.snapshot_s,
            restart_s=interruptions.restart_s,
            num_interruptions=interruptions.count,
            probabilities_N=PROBABILITIES[ranks_of(seed)["interruptions"]],
        )
    assert interruptions.mtbi_s is not None
    costs = {"restart_s": interruptions.restart_s, "mtbi_s": interruptions.mtbi_s}
    if interval_s is None:
        expected_s = expected_time_without_snapshots_s(work_s=run.total_s, **costs)
    else:
        interval = min(interval_s, run.total_s)
        expected_s = expected_time_s(
            work_s=run.total_s, interval_s=interval, snapshot_s=interruptions.snapshot_s, **costs
        )
    if expected_s > GIVE_UP * run.total_s:
        return np.full(NUM_DRAWS, math.inf)
    return simulate_s(
        work_N,
        interval_s=interval_s,
        snapshot_s=interruptions.snapshot_s,
        restart_s=interruptions.restart_s,
        mtbi_s=interruptions.mtbi_s,
        random=np.random.Generator(np.random.Philox(seed)),
        give_up_s=GIVE_UP * run.total_s,
    )


def _variance(values_N: Seconds) -> float:
    return float(values_N.var()) if np.isfinite(values_N).all() else math.inf


@functools.lru_cache(maxsize=4)
def ranks_of(seed: int) -> dict[Part, NDArray[np.int64]]:
    """Return of each part the rank of every draw among all draws, from 0 for the luckiest; (NUM_DRAWS,)."""
    points_NP = qmc.Sobol(d=len(PARTS), scramble=False).random_base2(LOG2_DRAWS)
    shifts_P = np.random.Generator(np.random.Philox(seed)).integers(0, NUM_DRAWS, len(PARTS))
    ranks_NP = (points_NP * NUM_DRAWS).astype(np.int64) ^ shifts_P
    return {part: ranks_NP[:, column] for column, part in enumerate(PARTS)}


@functools.lru_cache(maxsize=64)
def quantiles_of(freedom: float) -> Seconds:
    """Return the quantiles of Student's t, or with infinite degrees of the normal distribution, by rank; (NUM_DRAWS,).

    Each stands in the middle of its share of the probability. They are shared, so they are not to be written to.
    """
    quantiles_N: Seconds = ndtri(PROBABILITIES) if math.isinf(freedom) else stdtrit(freedom, PROBABILITIES)
    quantiles_N.setflags(write=False)
    return quantiles_N
