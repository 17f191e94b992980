"""Choose the canvases that a memory trial trains on before the worst case, as a long training run would."""

from __future__ import annotations

from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.records.spec.words import Soak

NUM_PASSES = 48
"""Most passes of a soak. After requests for two dozen widths in turn, the allocator has kept a segment of each."""

Pass = tuple[int, int, int]
"""Examples, height and width in pixels of a micro-batch's canvas."""


def soak_passes(sizes_N2: SizeArray, config: PlanConfig, *, soak: Soak) -> tuple[Pass, ...]:
    """Return the passes of a soak: the first passes of an epoch, in the sampler's order or largest first.

    Raises:
        ValueError: ``plan_epoch`` refuses the sizes or settings.
    """
    plan = plan_epoch(sizes_N2, config, epoch=0)
    passes = [(len(examples), *canvas) for examples, canvas in plan.micro_batches[:NUM_PASSES]]
    if soak == "largest-first":
        passes.sort(key=lambda one: one[0] * one[1] * one[2], reverse=True)
    return tuple(passes)
