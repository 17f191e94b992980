"""When a drill kills its run, and what the run is planned to take with its kills."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

from vnbench.analysis.models.step_fit import ASSUMED_BETWEEN
from vnbench.analysis.planning.interruptions import GOLDEN_RATIO, best_interval_of_count_s, sum_of_uniforms

Place = Literal["step", "write", "loader"]
"""Where a kill hits: at a random moment of a step, within the write of a snapshot, or in the wait for a batch."""

PLACES: tuple[Place, ...] = ("step", "step", "step", "write", "loader")
"""Places of five kills in a row: moments of steps hit a write or a loader too seldom to show anything."""

NUM_DRAWS = 8192

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One kill."""

    place: Place
    """Where it hits."""
    step: int
    """Optimizer steps that are done by then, counted over all epochs."""
    share: float
    """Share of the step, or of the write, that has passed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What the parts of a run take, measured without a kill."""

    start_up_s: float
    """Seconds from the start of the process to its first step."""
    step_times_s: Sequence[float]
    """Seconds of each optimizer step, its wait for data included, the mean of two runs."""
    spread: float
    """Relative standard deviation of a run's steps, from these two."""
    held_up_s: float
    """Seconds for which a snapshot holds up training."""
    snapshot_s: float
    """Seconds that a snapshot costs training in all: writing beside it takes of the cores, too."""
    read_s: float
    """Seconds to read a snapshot."""
    num_bytes: int
    """Size of a snapshot."""
    restart_s: float
    """Seconds that going on from a snapshot takes beyond the steps: interpreter, imports, network, reading, and what
    the first steps of a process take more."""

    @property
    def work_s(self) -> float:
        """Seconds of all steps."""
        return math.fsum(self.step_times_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A kill, and what the run lost by it."""

    kill: Kill
    """When it was to hit."""
    last_word: str
    """Where the process was."""
    done: int
    """Optimizer steps that were done."""
    redone: int
    """Steps of them that were done again."""
    is_lost: bool
    """Whether a snapshot that was said to be on the disk was not gone on from."""
    was_torn: bool
    """Whether the last file was torn afterwards, so that the one before had to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrillReport:
    """What a drill found."""

    measured: Measured
    """What the parts of the run take."""
    hits: tuple[Hit, ...]
    """The kills."""
    interval: int
    """Optimizer steps between snapshots."""
    planned_s: Mapping[str, float]
    """Quantiles of the planned wall clock, in seconds."""
    measured_s: float
    """Wall clock from the first start to the end, restarts included."""
    is_bitwise_equal: bool
    """Whether the run ended with the weights and the optimizer of one that was never killed."""
    is_full_told: bool | None
    """Whether a disk without room was told and cost no snapshot; None where it was not tried."""

    @property
    def lost_snapshots(self) -> int:
        """The number of snapshots that were on the disk and not gone on from."""
        return sum(hit.is_lost for hit in self.hits)

    @property
    def redone_steps_max(self) -> int:
        """The most steps that one kill cost."""
        return max((hit.redone for hit in self.hits), default=0)

    @property
    def exit_code(self) -> int:
        """0, or 1 where a snapshot was lost, or the run did not end the same."""
        return 0 if self.is_bitwise_equal and not self.lost_snapshots and self.is_full_told is not False else 1

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "kills": len(self.hits),
            "lost_snapshots": self.lost_snapshots,
            "is_bitwise_equal": self.is_bitwise_equal,
            "redone_steps_max": self.redone_steps_max,
            "interval_steps": self.interval,
            "num_steps": len(self.measured.step_times_s),
            "planned_s": dict(self.planned_s),
            "measured_s": self.measured_s,
            "work_s": self.measured.work_s,
            "start_up_s": self.measured.start_up_s,
            "held_up_s": self.measured.held_up_s,
            "snapshot_s": self.measured.snapshot_s,
            "read_s": self.measured.read_s,
            "restart_s": self.measured.restart_s,
            "snapshot_bytes": self.measured.num_bytes,
            "is_full_disk_told": self.is_full_told,
            "hit": dict(Counter(hit.last_word for hit in self.hits)),
        }


def with_snapshots(measured: Measured, *, times_s: float, num_saves: int) -> Measured:
    """Return what a snapshot costs in all, from the seconds of the same steps with so many of them in between.

    It is not less than a snapshot holds up, since runs differ by more than that.
    """
    if not num_saves:
        return measured
    return replace(measured, snapshot_s=max(measured.held_up_s, (times_s - measured.work_s) / num_saves))


def best_interval(measured: Measured, *, num_kills: int) -> int:
    """Return the optimizer steps between snapshots with the least mean time for a number of kills."""
    num_steps = len(measured.step_times_s)
    interval_s = best_interval_of_count_s(
        work_s=measured.work_s, snapshot_s=measured.snapshot_s, num_interruptions=num_kills, is_worst=False
    )
    return min(num_steps, max(1, round(interval_s * num_steps / measured.work_s)))


def draw_kills(num_kills: int, *, num_steps: int, interval: int, seed: int) -> tuple[Kill, ...]:
    """Return kills at random moments, in the order in which a run meets them."""
    drawn = random.Random(seed)
    writes = range(interval, num_steps, interval)
    kills = []
    for number in range(num_kills):
        place = PLACES[number % len(PLACES)]
        if place == "write" and not writes:
            place = "step"
        step = drawn.choice(writes) if place == "write" else drawn.randrange(num_steps)
        kills.append(Kill(place=place, step=step, share=drawn.random()))
    # A write follows the step that it is counted after, and comes before the next one.
    return tuple(sorted(kills, key=lambda kill: (kill.step, kill.place != "write", kill.share)))


def planned_s(measured: Measured, kills: Sequence[Kill], *, interval: int) -> Mapping[str, float]:
    """Return the quantiles of the wall clock of a run with kills, from its start to its end, in seconds.

    A kill within a step loses a uniformly random share of an interval, one within a write all of it. Runs differ by
    ASSUMED_BETWEEN, or by what the two that were measured differ by, if that is more.
    """
    num_steps = len(measured.step_times_s)
    interval_s = interval * measured.work_s / num_steps
    num_writes = sum(kill.place == "write" for kill in kills)
    even_N = (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS
    shuffled_N = even_N * NUM_DRAWS * GOLDEN_RATIO % 1
    lost_N = interval_s * sum_of_uniforms(shuffled_N, len(kills) - num_writes)
    work_N = measured.work_s + lost_N + num_writes * interval_s + measured.start_up_s + len(kills) * measured.restart_s
    snapshots_s = measured.snapshot_s * (num_steps // interval + num_writes / 2)
    total_N = work_N * np.exp(max(ASSUMED_BETWEEN, measured.spread) * ndtri(even_N)) + snapshots_s
    return {
        name: float(value) for name, value in zip(QUANTILES, np.quantile(total_N, [*QUANTILES.values()]), strict=True)
    }
