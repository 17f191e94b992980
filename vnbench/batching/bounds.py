"""Compute a lower bound on the padding of any grouping of the examples.

Shape suffixes: N examples, M micro-batches, U distinct areas.
"""

from __future__ import annotations

import numpy as np

from vnbench.batching.alignment import IntArray

MAX_STATES = 2**24
"""Largest number of states for which the bound limits the size of micro-batches: 128 MiB. A plan of fixed cuts needs a
few states per example; a plan with a pixel budget may leave so many places free that it would need billions."""

MAX_OPERATIONS = 2**30
"""Largest number of operations for the same purpose: a few seconds."""

_UNREACHABLE = 2**61
"""Cost of a state that no partition reaches: above the pixels of any data set, and its double still fits 64 bits."""


def fewest_padded_pixels(areas_N: IntArray, *, num_micro_batches: int, micro_batch_size: int) -> int:
    """Return a lower bound, in pixels, on the padded pixels of any grouping into micro-batches of this number and size.

    ``areas_N`` are aligned heights x aligned widths. A micro-batch of n examples costs n x max height x max width. That
    is at least n x its largest area, so the cheapest grouping under this second cost bounds every grouping under the
    first. Under the second cost, some cheapest grouping is consecutive in ascending order of area: take the group with
    the largest area and exchange its other members for the next largest examples. Its own cost stays the same. Every
    other group keeps its number of members and only gets smaller members for larger ones, so no other maximum rises.
    Repeat with the remaining groups.

    The cheapest consecutive grouping is found exactly if that needs at most MAX_STATES and MAX_OPERATIONS. Otherwise
    only the number of groups is limited, not their size; the result is still a lower bound.
    """
    slack = num_micro_batches * micro_batch_size - len(areas_N)
    num_states = (slack + 1) * (num_micro_batches + 1)
    if num_states <= MAX_STATES and num_states * min(slack + 1, micro_batch_size) <= MAX_OPERATIONS:
        return _with_bounded_groups(np.sort(areas_N), num_micro_batches, micro_batch_size)
    return _with_any_groups(areas_N, num_micro_batches)


def _with_bounded_groups(ascending_N: IntArray, num_micro_batches: int, micro_batch_size: int) -> int:
    """Return the cost of the cheapest consecutive groups of at most micro_batch_size examples.

    K groups of at most m examples leave K m - N places free: the slack. Let f(d, j) be the least cost of the first j
    groups if they leave d places free, so that they hold the first j m - d examples. The last of these groups has m - e
    examples and ends with the largest one, so f(d, j) = min over e of f(d - e, j - 1) + (m - e) x area[j m - d]. Full
    groups (e = 0) form a running sum along j, which turns the recursion into a running minimum.

    All numbers are integers, so the result is exact. The slack of a plan of fixed cuts is below m, so it takes at most
    N x m operations (a million examples in batches of 1,024: 0.2 s).
    """
    slack = num_micro_batches * micro_batch_size - len(ascending_N)
    ends_M = np.arange(1, num_micro_batches + 1) * micro_batch_size - 1
    costs = np.full((slack + 1, num_micro_batches + 1), _UNREACHABLE, dtype=np.int64)
    costs[0, 0] = 0
    for free in range(slack + 1):
        # Positions outside the examples belong to states that no partition reaches, or that lead to no result.
        maxima_M = ascending_N[np.clip(ends_M - free, 0, len(ascending_N) - 1)]
        full_groups = np.concatenate(([0], np.cumsum(micro_batch_size * maxima_M)))
        newly_free = np.arange(1, min(free, micro_batch_size - 1) + 1)[:, np.newaxis]
        shorter = costs[free - newly_free[:, 0], :-1] + (micro_batch_size - newly_free) * maxima_M
        costs[free, 1:] = np.minimum(costs[free, 1:], shorter.min(axis=0, initial=_UNREACHABLE))
        costs[free] = full_groups + np.minimum.accumulate(costs[free] - full_groups)
    return int(costs[slack, -1])


def _with_any_groups(areas_N: IntArray, num_groups: int) -> int:
    """Return a lower bound on the cost of ``num_groups`` consecutive groups of any size.

    Splitting equal areas saves nothing, so the groups are runs of distinct areas. For any price p >= 0 of a group,
    min over all partitions of (cost + p x groups) - p x num_groups is a lower bound (Lagrangian duality). A bisection
    of p finds the largest of these bounds.
    """
    areas_U, counts_U = np.unique(areas_N, return_counts=True)
    alone = int((areas_U * counts_U).sum())
    if num_groups >= len(areas_U):
        return alone
    ends = np.append(0, np.cumsum(counts_U))
    best = alone
    low, high = 0, int(areas_U[-1]) * len(areas_N)
    while low <= high:
        price = (low + high) // 2
        total, used = _cheapest_at_a_price(areas_U, ends, price)
        best = max(best, total - price * num_groups)
        if used > num_groups:
            low = price + 1
        else:
            high = price - 1
    return best


def _cheapest_at_a_price(areas_U: IntArray, ends: IntArray, price: int) -> tuple[int, int]:
    """Return the minimum of cost + price x groups over all partitions of the distinct areas, and its group count."""
    least = np.zeros(len(areas_U) + 1, dtype=np.int64)
    groups = np.zeros(len(areas_U) + 1, dtype=np.int64)
    for end, area in enumerate(areas_U, start=1):
        totals = least[:end] + (ends[end] - ends[:end]) * area
        start = int(totals.argmin())
        least[end] = totals[start] + price
        groups[end] = groups[start] + 1
    return int(least[-1]), int(groups[-1])
