"""Schedule several runs on several cards.

The rule is longest run first, each on the card that is free first (Graham, Bounds on multiprocessing timing anomalies,
SIAM Journal on Applied Mathematics 17, 1969: at most a third longer than the optimum). A run whose median end is after
the window is left out, and the next one is tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.analysis.planning.spread import Finish


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A run on its card."""

    name: str
    """Name of the run."""
    card: int
    """Number of the card, from 0."""
    start_s: float
    """Expected start in seconds from now, from median durations."""
    end_s: float
    """Expected end in seconds from now, from median durations."""
    late_end_s: float
    """End that is not exceeded in nine of ten cases, if the durations on a card are independent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The schedule of all runs."""

    placed: tuple[Placed, ...]
    """Scheduled runs, the earliest start first."""
    left_out: tuple[str, ...]
    """Names of runs that do not end within the window."""


def make_schedule(runs: Sequence[tuple[str, Finish]], *, num_cards: int, window_s: float | None) -> Schedule:
    """Return the schedule; without a window, every run that ever finishes is scheduled."""
    free_s = [0.0] * num_cards
    spread_s2 = [0.0] * num_cards
    placed: list[Placed] = []
    left_out: list[str] = []
    for name, finish in sorted(runs, key=lambda run: -run[1].p50):
        card = min(range(num_cards), key=lambda one: free_s[one])
        end_s = free_s[card] + finish.p50
        if not math.isfinite(end_s) or (window_s is not None and end_s > window_s):
            left_out.append(name)
            continue
        late_s = finish.p90 - finish.p50
        spread_s2[card] += late_s**2
        placed.append(
            Placed(
                name=name,
                card=card,
                start_s=free_s[card],
                end_s=end_s,
                late_end_s=end_s + math.sqrt(spread_s2[card]),
            )
        )
        free_s[card] = end_s
    return Schedule(placed=tuple(sorted(placed, key=lambda one: (one.start_s, one.card))), left_out=tuple(left_out))
