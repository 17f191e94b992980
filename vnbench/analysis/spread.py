"""The distribution of a run's finish: what is not known of its work, and what interruptions add, by Monte Carlo.

Each part of the uncertainty is drawn on its own: coefficients and what is particular to sizes on Student's t with the
fit's degrees of freedom, what is particular to the process on those of the spread between processes, loading on the
normal distribution, interruptions as they come. The share of a part is the variance with it alone over the sum of all.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.interruptions import (
    expected_time_s,
    expected_time_without_snapshots_s,
    simulate_count_s,
    simulate_s,
)
from vnbench.analysis.run_time import RunTime

Seconds = NDArray[np.float64]

Part = Literal["coefficients", "sizes", "processes", "loading", "interruptions"]
PARTS: tuple[Part, ...] = get_args(Part)

NUM_DRAWS = 40_000
"""Draws of a run; with 3 to 20 % of spread the median of so many is known to 0.02 to 0.13 %."""

PERCENTILES = (10, 50, 90)

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
class Degrees:
    """On how much the errors of a run's parts rest; infinite for plenty."""

    measured: float
    """Of coefficients and sizes."""
    processes: float
    """Of the spread between processes."""
    loading: float
    """Relative standard error of the loader's supply."""


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


def draw_work_s(run: RunTime, degrees: Degrees, *, seed: int, parts: frozenset[Part]) -> Seconds:
    """Return draws of the seconds of a run without interruptions, with the errors of some parts; (NUM_DRAWS,).

    Each part has a stream of its own: draw i is off by as much in every configuration, so that they compare alike.
    """

    def errors(scale: float, freedom: float, part: Part) -> Seconds | float:
        return scale * _drawn(seed, part, freedom) if part in parts and scale else 0.0

    computing_N = run.computing_s * np.maximum(
        SMALLEST_FACTOR,
        1
        + errors(run.computing.coefficients, degrees.measured, "coefficients")
        + errors(run.computing.sizes, degrees.measured, "sizes")
        + errors(run.computing.processes, degrees.processes, "processes"),
    )
    loading_N = (run.loading_s or 0.0) * np.maximum(SMALLEST_FACTOR, 1 + errors(degrees.loading, math.inf, "loading"))
    epoch_N = np.maximum(computing_N, loading_N) if run.has_workers else computing_N + loading_N
    once_s = run.start_up_s + run.new_shapes_s
    return np.broadcast_to(once_s + run.num_epochs * (epoch_N + run.validation_s), NUM_DRAWS).astype(np.float64)


def finish_of(
    run: RunTime,
    degrees: Degrees,
    interruptions: Interruptions,
    *,
    interval_s: float | None,
    window_s: float | None,
    seed: int,
) -> Finish:
    """Return when a run finishes that snapshots after every interval, or never with ``interval_s`` None."""
    finish_N = _finish_s(run, degrees, interruptions, interval_s, seed=seed, parts=frozenset(PARTS))
    low, middle, high = np.percentile(finish_N, PERCENTILES, method="higher").tolist()
    return Finish(
        p10=low,
        p50=middle,
        p90=high,
        mean=float(finish_N.mean()),
        probability=None if window_s is None else float((finish_N <= window_s).mean()),
    )


def shares_of(
    run: RunTime, degrees: Degrees, interruptions: Interruptions, *, interval_s: float | None, seed: int
) -> dict[Part, float]:
    """Return the share of each part in the variance of the finish; empty where it has none, or no finite one."""
    variances = {
        part: _variance(_finish_s(run, degrees, interruptions, interval_s, seed=seed, parts=frozenset({part})))
        for part in PARTS
    }
    total = sum(variances.values())
    return {part: variance / total for part, variance in variances.items()} if 0 < total < math.inf else {}


def _finish_s(
    run: RunTime,
    degrees: Degrees,
    interruptions: Interruptions,
    interval_s: float | None,
    *,
    seed: int,
    parts: frozenset[Part],
) -> Seconds:
    work_N = draw_work_s(run, degrees, seed=seed, parts=parts)
    if "interruptions" not in parts or interruptions.is_none:
        return work_N if interval_s is None else work_N + interruptions.snapshot_s * (np.ceil(work_N / interval_s) - 1)
    random = _generator(seed, "interruptions")
    if interruptions.count is not None:
        return simulate_count_s(
            work_N,
            interval_s=interval_s,
            snapshot_s=interruptions.snapshot_s,
            restart_s=interruptions.restart_s,
            num_interruptions=interruptions.count,
            random=random,
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
        random=random,
        give_up_s=GIVE_UP * run.total_s,
    )


def _variance(values_N: Seconds) -> float:
    return float(values_N.var()) if np.isfinite(values_N).all() else math.inf


def _generator(seed: int, part: Part) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, PARTS.index(part)]))


@functools.lru_cache(maxsize=64)
def _drawn(seed: int, part: Part, freedom: float) -> Seconds:
    """Return the standardised errors of a part; they are shared, so they are not to be written to."""
    random = _generator(seed, part)
    drawn = random.standard_normal(NUM_DRAWS) if math.isinf(freedom) else random.standard_t(freedom, NUM_DRAWS)
    drawn.setflags(write=False)
    return drawn
