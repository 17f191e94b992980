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
    """Examples in the order of their visit, cut twice: into micro-batches, and these into steps."""

    order_N: IntArray
    """Rows of the sizes."""
    lengths_M: IntArray
    """Examples of each micro-batch."""
    passes_S: IntArray
    """Micro-batches of each step."""


def cut_consecutively(order_SB: IntArray, *, length: int) -> Grouping:
    """Return steps whose micro-batches are consecutive cuts of a length; the last of each step may be short."""
    num_steps, batch_size = order_SB.shape
    num_passes = -(-batch_size // length)
    lengths_SM = np.full((num_steps, num_passes), length, dtype=np.int64)
    lengths_SM[:, -1] = batch_size - length * (num_passes - 1)
    return Grouping(order_SB.ravel(), lengths_SM.ravel(), np.full(num_steps, num_passes, dtype=np.int64))


def group_alike(order_SB: IntArray, sizes_N2: SizeArray, *, length: int) -> Grouping:
    """Return steps whose micro-batches of a length hold examples of like sizes, largest first.

    Each micro-batch starts with the largest example left (height x width) and takes, one by one, the example that adds
    the fewest padded pixels: pixels of the grown micro-batch less those of the example itself.
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
    """Return steps whose micro-batches hold as many examples as keep examples x canvas within a budget of pixels.

    The examples of a step are taken by descending area; a micro-batch closes before the one that would exceed the
    budget, which gives the fewest micro-batches where one side is the same for all. Where as many micro-batches of
    equal numbers keep within the budget, they are taken instead: 15 examples and then one would be padded more, and use
    the device less. Every example must be within the budget.
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
    """Cut each step into micro-batches of equal numbers, up to one, where these keep within the budget."""
    passes_S = is_first_SB.sum(axis=1)
    batch_size = is_first_SB.shape[1]
    for num_passes in np.unique(passes_S):
        rows_S = np.flatnonzero(passes_S == num_passes)
        # The larger numbers come last, where the examples are smaller.
        cuts = np.arange(num_passes + 1) * batch_size // num_passes
        canvases_SM = np.maximum.reduceat(heights_SB[rows_S], cuts[:-1], axis=1)
        canvases_SM = canvases_SM * np.maximum.reduceat(widths_SB[rows_S], cuts[:-1], axis=1)
        fits_S = (np.diff(cuts) * canvases_SM <= budget).all(axis=1)
        is_first_SB[rows_S[fits_S]] = np.isin(np.arange(batch_size), cuts)


def joined(groupings: list[Grouping]) -> Grouping:
    """Return the steps of several groupings, one after the other."""
    return Grouping(*(np.concatenate(parts) for parts in zip(*groupings, strict=True)))
