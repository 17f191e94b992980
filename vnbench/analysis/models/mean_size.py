"""What planning a micro-batch by the mean size of the images, and not by the worst case, would lead to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.records.spec.words import SamplerName

PLANNED_EPOCH = 1
"""Epoch whose steps are looked at; the largest of them differ little between epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanSizePlan:
    """A micro-batch chosen by the mean image, and what becomes of it."""

    micro_batch_size: int
    """Images of mean area that fit; no more than there are images."""
    failing_steps_ratio: float
    """Share of an epoch's steps, of that many images in one pass, that would not fit."""


def plan_by_mean_size(sizes_N2: SizeArray, *, too_many_pixels: int, sampler: SamplerName, seed: int) -> MeanSizePlan:
    """Return what the mean area of some sizes allows, where ``too_many_pixels`` padded pixels in a pass do not fit.

    Memory goes with padded pixels, so what is below that number is taken to fit. Batches are whole micro-batches of
    ``sampler``, which must be one without a pixel budget.
    """
    mean_pixels = float(align(sizes_N2).prod(axis=1).mean())
    micro_batch_size = min(math.ceil(too_many_pixels / mean_pixels) - 1, len(sizes_N2))
    if micro_batch_size < 1:
        return MeanSizePlan(micro_batch_size=0, failing_steps_ratio=1.0)
    config = PlanConfig(sampler=sampler, batch_size=micro_batch_size, micro_batch_size=micro_batch_size, seed=seed)
    padded_S = plan_epoch(sizes_N2, config, epoch=PLANNED_EPOCH).padded_pixels_M
    return MeanSizePlan(
        micro_batch_size=micro_batch_size, failing_steps_ratio=float(np.mean(padded_S >= too_many_pixels))
    )
