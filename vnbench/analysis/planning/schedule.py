"""Several runs on several cards: which goes where, and when each ends.

The rule: the longest run first, each to the card that is free first (Graham, Bounds on multiprocessing timing
anomalies, SIAM Journal on Applied Mathematics 17, 1969: at most a third longer than the best there is). A run that
would most likely end after the window is left out, and the next one tried.
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
    """What it is called."""
    card: int
    """Which card, from 0."""
    start_s: float
    """When it most likely starts, in seconds from now."""
    end_s: float
    """When it most likely ends."""
    late_end_s: float
    """When it and those before it on the card have ended in nine of ten cases, each off by its own chance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Runs on cards."""

    placed: tuple[Placed, ...]
    """Runs that are done, the earliest start first."""
    left_out: tuple[str, ...]
    """Runs for which the window has no room."""


def make_schedule(runs: Sequence[tuple[str, Finish]], *, num_cards: int, window_s: float | None) -> Schedule:
    """Return who runs where; a window of None has room for all that ever finish."""
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
