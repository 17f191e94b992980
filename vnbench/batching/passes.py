"""Cut the examples of an optimizer step into micro-batches, one per forward and backward pass.

Shape suffixes: N examples, M micro-batches, S optimizer steps, B examples of a step.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vnbench.batching.alignment import IntArray
from vnbench.batching.sizes import SizeArray

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class Grouping(NamedTuple):
    """The order of the examples, cut into micro-batches, which are grouped into steps."""

    order_N: IntArray
    """Row of each example in the sizes."""
    lengths_M: IntArray
    """Number of examples in each micro-batch."""
    passes_S: IntArray
    """Number of micro-batches in each step."""


def cut_consecutively(order_SB: IntArray, *, length: int) -> Grouping:
    """Return steps cut into consecutive micro-batches of ``length`` examples; the last of each step may be shorter."""
    num_steps, batch_size = order_SB.shape
    num_passes = -(-batch_size // length)
    lengths_SM = np.full((num_steps, num_passes), length, dtype=np.int64)
    lengths_SM[:, -1] = batch_size - length * (num_passes - 1)
    return Grouping(order_SB.ravel(), lengths_SM.ravel(), np.full(num_steps, num_passes, dtype=np.int64))


def group_alike(order_SB: IntArray, sizes_N2: SizeArray, *, length: int) -> Grouping:
    """Return steps whose micro-batches of ``length`` examples hold similar sizes, largest first.

    Each micro-batch starts with the largest example left (height x width). It then takes, one by one, the example that
    adds the least padding: the padded pixels of the grown micro-batch minus the pixels of the example.
    """
    num_steps, batch_size = order_SB.shape
    if length == 1 or length >= batch_size:
        return cut_consecutively(order_SB, length=length)
    heights_SB, widths_SB = np.moveaxis(sizes_N2[order_SB], -1, 0)
    areas_SB = heights_SB * widths_SB
    rows_S = np.arange(num_steps)
    is_taken_SB = np.zeros(order_SB.shape, dtype=np.bool_)
    chosen_SB = np.empty_like(order_SB)
    height_S1 = width_S1 = np.zeros((num_steps, 1), dtype=np.int64)
    for place in range(batch_size):
        num_members = place % length
        if num_members == 0:
            height_S1 = width_S1 = np.zeros((num_steps, 1), dtype=np.int64)
            cost_SB = -areas_SB
        else:
            canvas_SB = np.maximum(heights_SB, height_S1) * np.maximum(widths_SB, width_S1)
            cost_SB = (num_members + 1) * canvas_SB - areas_SB
        cost_SB[is_taken_SB] = np.iinfo(np.int64).max
        choice_S = cost_SB.argmin(axis=1)
        chosen_SB[:, place] = choice_S
        is_taken_SB[rows_S, choice_S] = True
        height_S1 = np.maximum(height_S1, heights_SB[rows_S, choice_S, np.newaxis])
        width_S1 = np.maximum(width_S1, widths_SB[rows_S, choice_S, np.newaxis])
    return cut_consecutively(np.take_along_axis(order_SB, chosen_SB, axis=1), length=length)


def close_at_budget(order_SB: IntArray, sizes_N2: SizeArray, *, budget: int) -> Grouping:
    """Return steps whose micro-batches hold as many examples as a budget on examples x canvas pixels allows.

    The examples of a step are taken by descending area. A micro-batch closes before the example that would exceed the
    budget. If all examples share one side, this gives the fewest micro-batches. If the same number of micro-batches of
    equal length also keeps the budget, these are taken instead: 15 examples and then 1 would need more padding and use
    the device less. Every example alone must keep the budget.
    """
    areas_SB = sizes_N2.prod(axis=1)[order_SB]
    sorted_SB = np.take_along_axis(order_SB, np.argsort(-areas_SB, axis=1, kind="stable"), axis=1)
    heights_SB, widths_SB = np.moveaxis(sizes_N2[sorted_SB], -1, 0)
    is_first_SB = np.zeros(order_SB.shape, dtype=np.bool_)
    count_S = height_S = width_S = np.zeros(len(order_SB), dtype=np.int64)
    for place in range(order_SB.shape[1]):
        grown_height_S = np.maximum(height_S, heights_SB[:, place])
        grown_width_S = np.maximum(width_S, widths_SB[:, place])
        closes_S = (count_S == 0) | ((count_S + 1) * grown_height_S * grown_width_S > budget)
        is_first_SB[:, place] = closes_S
        count_S = np.where(closes_S, 1, count_S + 1)
        height_S = np.where(closes_S, heights_SB[:, place], grown_height_S)
        width_S = np.where(closes_S, widths_SB[:, place], grown_width_S)
    _even_out(is_first_SB, heights_SB, widths_SB, budget=budget)
    starts_M = np.flatnonzero(is_first_SB)
    return Grouping(sorted_SB.ravel(), np.diff(starts_M, append=order_SB.size), is_first_SB.sum(axis=1))


def _even_out(is_first_SB: BoolArray, heights_SB: IntArray, widths_SB: IntArray, *, budget: int) -> None:
    """Cut each step into micro-batches whose lengths differ by at most one, if these keep the budget."""
    passes_S = is_first_SB.sum(axis=1)
    batch_size = is_first_SB.shape[1]
    for num_passes in np.unique(passes_S):
        rows_S = np.flatnonzero(passes_S == num_passes)
        # The longer micro-batches come last, where the examples are smaller.
        cuts = np.arange(num_passes + 1) * batch_size // num_passes
        canvases_SM = np.maximum.reduceat(heights_SB[rows_S], cuts[:-1], axis=1)
        canvases_SM = canvases_SM * np.maximum.reduceat(widths_SB[rows_S], cuts[:-1], axis=1)
        fits_S = (np.diff(cuts) * canvases_SM <= budget).all(axis=1)
        is_first_SB[rows_S[fits_S]] = np.isin(np.arange(batch_size), cuts)


def joined(groupings: list[Grouping]) -> Grouping:
    """Return the steps of several groupings, concatenated."""
    return Grouping(*(np.concatenate(parts) for parts in zip(*groupings, strict=True)))
