"""Plan which examples share a batch, from their sizes alone.

A sampler orders the examples of an epoch into optimizer steps and cuts each step into micro-batches, one per forward
and backward pass. All examples of a micro-batch are padded to one canvas.
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
"""Upper half of the second word of the Philox key: makes plans independent of other draws from the same seed."""


def plan_epoch(sizes_N2: SizeArray, config: PlanConfig, *, epoch: int, grid: CanvasGrid | None = None) -> BatchPlan:
    """Return the plan of one epoch: every example once, batch_size examples per step; the last step may be shorter.

    The plan depends only on the arguments: the sampler draws from a Philox generator keyed by (seed, epoch). If
    ``config.shapes`` limits the canvases, they come from ``grid``, or are chosen for these sizes.

    Raises:
        ValueError: the sizes are empty or not positive whole pixels of shape (N, 2), there are fewer examples than a
            batch, the canvas of an example exceeds the pixel budget, or the epoch is out of range.
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
        # The largest height x the largest width of canvases of a grid is a canvas of the grid too.
        canvases_M2=np.maximum.reduceat(canvases_N2[order_N], starts(lengths_M), axis=0),
        passes_S=passes_S,
    )


def own_canvases(sizes_N2: SizeArray, config: PlanConfig, *, grid: CanvasGrid | None = None) -> SizeArray:
    """Return the canvas that each example would have alone, (height, width) in pixels, shape (N, 2).

    Raises:
        ValueError: the sizes are empty or not positive whole pixels of shape (N, 2), or a canvas exceeds the pixel
            budget.
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
    """Return the padded pixels of a micro-batch whose canvas has the largest height and width, both aligned."""
    height, width = align(sizes_N2.max(axis=0)).tolist()
    return int(micro_batch_size * height * width)
