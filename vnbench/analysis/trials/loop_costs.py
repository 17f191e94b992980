"""What a framework adds to a pass, from steps of its loop and of the own one in turn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

TOLERATED_SHARE = 0.01
"""Share of a step above which a framework's cost is worth knowing."""

TAIL = 0.025
"""Probability that an interval may miss on either side."""

Interval = tuple[float, float]
"""Lower and upper end, with 95 % confidence."""

Pair = tuple[float, float]
"""Seconds of a step by the own loop, and by the framework's right before or after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopCost:
    """What a framework's loop takes beyond the own one in a step of one pass: on one canvas, or on any."""

    padded_pixels: float
    """Padded pixels of the pass; of several canvases, the median."""
    num_pairs: int
    """Pairs of neighbouring steps, over all processes."""
    own_s: float
    """Seconds of a step by the own loop, the median over the pairs."""
    added_s: float
    """Seconds that the framework adds, the median over the pairs."""
    interval_s: Interval | None
    """Interval of ``added_s``; None for fewer than six pairs."""
    pairs: tuple[Pair, ...]
    """The pairs themselves."""


def loop_cost(pairs: Iterable[Pair], *, padded_pixels: float) -> LoopCost | None:
    """Return the cost on a canvas; None without pairs."""
    known = tuple(pairs)
    if not known:
        return None
    added = sorted(loop_s - own_s for own_s, loop_s in known)
    return LoopCost(
        padded_pixels=padded_pixels,
        num_pairs=len(known),
        own_s=median(own_s for own_s, _ in known),
        added_s=median(added),
        interval_s=interval_of_median(added),
        pairs=known,
    )


def on_any_canvas(costs: Sequence[LoopCost]) -> LoopCost | None:
    """Return the cost over all pairs of all canvases: what is added to a pass hardly depends on its size."""
    if not costs:
        return None
    return loop_cost(
        (pair for one in costs for pair in one.pairs), padded_pixels=median(one.padded_pixels for one in costs)
    )


def break_even_px(costs: Sequence[LoopCost], added_s: float) -> float:
    """Return the padded pixels of the pass in which ``added_s`` is TOLERATED_SHARE of a step; below, it is more.

    The own step's time is interpolated between the canvases. The result is 0 if the share is smaller on all of them,
    and infinite if it is larger on all.
    """
    wanted_s = added_s / TOLERATED_SHARE
    known = sorted((one.own_s, one.padded_pixels) for one in costs)
    if wanted_s <= known[0][0]:
        return 0.0
    for (low_s, low_px), (high_s, high_px) in itertools.pairwise(known):
        if wanted_s <= high_s:
            return low_px + (wanted_s - low_s) / (high_s - low_s) * (high_px - low_px)
    return math.inf


def interval_of_median(ordered: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of a median from ordered values; None for fewer than six.

    The number of values below the median is binomial, whatever the distribution, so bursts of another program widen
    nothing.
    """
    num_values, num_cut, below = len(ordered), 0, 0.0
    while (below := below + math.comb(num_values, num_cut) / 2**num_values) <= TAIL:
        num_cut += 1
    return (ordered[num_cut - 1], ordered[-num_cut]) if num_cut else None
