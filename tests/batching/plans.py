"""Sizes and plans that several tests need."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from hypothesis import strategies as st

from vnbench.batching.alignment import align
from vnbench.batching.plan import BUDGETED_SAMPLER, BatchPlan, MicroBatch, PlanConfig
from vnbench.batching.sizes import SizeArray, SizeDistribution
from vnbench.records.spec.words import ALIGNMENT, SamplerName
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12800), heights=PixelRange(start=480, stop=640))


def sizes_of(*rows: tuple[int, int]) -> SizeArray:
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def small_sizes(max_examples: int, *, min_examples: int = 1) -> st.SearchStrategy[SizeArray]:
    """Few classes and few widths, so that ties, mixed batches and remainders are common."""
    side = st.integers(1, 5 * ALIGNMENT)
    rows = st.lists(st.tuples(side, side), min_size=min_examples, max_size=max_examples)
    return rows.map(lambda drawn: sizes_of(*drawn))


def config_of(
    sampler: SamplerName,
    sizes_N2: SizeArray,
    *,
    batch_size: int,
    micro_batch_size: int | None = None,
    shapes: int | None = None,
    seed: int = 0,
) -> PlanConfig:
    """Return settings; a pixel budget is that of so many worst-case examples."""
    micro_batch_size = micro_batch_size or batch_size
    worst_case_pixels = int(align(sizes_N2.max(axis=0)).prod())
    return PlanConfig(
        sampler=sampler,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        pixel_budget=micro_batch_size * worst_case_pixels if sampler == BUDGETED_SAMPLER else None,
        shapes=shapes,
        seed=seed,
    )


def plan_of(sizes_N2: SizeArray, steps: Sequence[Sequence[Sequence[int]]]) -> BatchPlan:
    """Return the plan of some steps of micro-batches of examples, on the smallest canvases."""

    def padded(examples: Sequence[int]) -> MicroBatch:
        height, width = align(sizes_N2[list(examples)].max(axis=0)).tolist() if examples else (ALIGNMENT, ALIGNMENT)
        return MicroBatch(tuple(examples), (height, width))

    return BatchPlan.from_steps([[padded(examples) for examples in step] for step in steps])


def batches_of(plan: BatchPlan) -> list[list[int]]:
    """Return the examples of each optimizer step."""
    return [list(chain.from_iterable(micro_batch.examples for micro_batch in step)) for step in plan.steps]
