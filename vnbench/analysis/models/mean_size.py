"""Show what happens if a micro-batch is planned by the mean size of the images instead of the worst case."""

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
"""Epoch whose steps are examined; the largest steps differ little between epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanSizePlan:
    """A micro-batch planned by the mean size, and how often it fails."""

    micro_batch_size: int
    """Number of images of mean area that fit, at most the number of images."""
    failing_steps_ratio: float
    """Share of an epoch's steps, each with this number of images in one pass, that would not fit."""


def plan_by_mean_size(sizes_N2: SizeArray, *, too_many_pixels: int, sampler: SamplerName, seed: int) -> MeanSizePlan:
    """Return the micro-batch that the mean area allows if ``too_many_pixels`` padded pixels in a pass do not fit.

    Memory is proportional to padded pixels, so any smaller number is taken to fit. Each batch is one micro-batch of
    ``sampler``, which must not need a pixel budget.
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
