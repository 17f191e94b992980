"""Plan which examples share a batch, from their sizes alone.

A sampler orders the examples of an epoch into optimizer steps and cuts these into micro-batches, one per forward and
backward pass; a micro-batch is padded to one canvas.
"""

from __future__ import annotations

import numpy as np

from vnbench.batching.alignment import align
from vnbench.batching.plan import BatchPlan, PlanConfig, starts
from vnbench.batching.samplers import SAMPLERS
from vnbench.batching.shapes import CanvasGrid, choose_grid
from vnbench.batching.sizes import SizeArray, check_sizes
from vnbench.records.spec.words import MAX_EPOCH

_PLAN_STREAM = int.from_bytes(b"plan") << 32
"""Upper half of the second word of the Philox key: keeps plans independent of what else is drawn from the same seed."""


def plan_epoch(sizes_N2: SizeArray, config: PlanConfig, *, epoch: int, grid: CanvasGrid | None = None) -> BatchPlan:
    """Return the plan of one epoch: every example once, batch_size examples per step but for the last step.

    The plan depends on the arguments alone: the sampler draws from a Philox generator keyed by (seed, epoch). Where
    canvases are few (``config.shapes``) they are chosen for these sizes, or are those of the ``grid`` given.

    Raises:
        ValueError: sizes that are not whole positive pixels of shape (N, 2) or are empty, fewer examples than a batch,
            an example whose canvas exceeds the pixel budget, or an epoch out of range.
    """
    if not 0 <= epoch <= MAX_EPOCH:
        raise ValueError(f"epoch {epoch}: must be within 0 to {MAX_EPOCH}")
    canvases_N2 = own_canvases(sizes_N2, config, grid=grid)
    if len(sizes_N2) < config.batch_size:
        raise ValueError(f"batch_size {config.batch_size}: there are only {len(sizes_N2)} examples")
    rng = np.random.Generator(np.random.Philox(key=np.array([config.seed, _PLAN_STREAM + epoch], dtype=np.uint64)))
    order_N, lengths_M, passes_S = SAMPLERS[config.sampler](canvases_N2, config, rng)
    return BatchPlan(
        order_N=order_N,
        lengths_M=lengths_M,
        # The largest height by the largest width of a grid's canvases is of the grid again.
        canvases_M2=np.maximum.reduceat(canvases_N2[order_N], starts(lengths_M), axis=0),
        passes_S=passes_S,
    )


def own_canvases(sizes_N2: SizeArray, config: PlanConfig, *, grid: CanvasGrid | None = None) -> SizeArray:
    """Return the canvas that each example would have alone, shape (N, 2).

    Raises:
        ValueError: sizes that are not whole positive pixels of shape (N, 2) or are empty, or a canvas that exceeds the
            pixel budget.
    """
    check_sizes(sizes_N2)
    canvases_N2 = align(sizes_N2)
    if config.shapes is not None:
        canvases_N2 = (grid or choose_grid(canvases_N2, count=config.shapes)).snap(canvases_N2)
    largest = int(canvases_N2.prod(axis=1).max())
    if config.pixel_budget is not None and largest > config.pixel_budget:
        raise ValueError(f"pixel_budget {config.pixel_budget}: one example alone takes {largest} padded pixels")
    return canvases_N2


def worst_case_budget(sizes_N2: SizeArray, *, micro_batch_size: int) -> int:
    """Return the padded pixels of a micro-batch of the largest height by the largest width, both aligned."""
    height, width = align(sizes_N2.max(axis=0)).tolist()
    return int(micro_batch_size * height * width)
