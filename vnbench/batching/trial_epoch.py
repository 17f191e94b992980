"""The epoch of a trial on image files, as its spec has it: which examples are measured, and in which batches."""

from __future__ import annotations

from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, PlanConfig
from vnbench.batching.shapes import choose_grid
from vnbench.batching.sizes import SizeArray
from vnbench.batching.subset import choose_subset
from vnbench.records.spec.trial_spec import ImagesSpec

MEASURED_EPOCH = 1
"""Epoch of the subset that is measured; warm-up takes its steps from epoch 0."""


def plan_config(spec: ImagesSpec) -> PlanConfig:
    """Return the settings for planning a trial's batches."""
    return PlanConfig(
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        pixel_budget=spec.pixel_budget,
        shapes=spec.shapes,
        seed=spec.seed,
    )


def plan_measured(spec: ImagesSpec, train_sizes_N2: SizeArray, *, epoch: int = MEASURED_EPOCH) -> BatchPlan:
    """Return the plan of an epoch of the measured training examples, as indices into those examples.

    Canvases are chosen for all training examples, although only some are measured.
    """
    grid = None if spec.shapes is None else choose_grid(align(train_sizes_N2), count=spec.shapes)
    measured_N2 = train_sizes_N2[choose_subset(train_sizes_N2, subset_size=spec.subset_size)]
    return plan_epoch(measured_N2, plan_config(spec), epoch=epoch, grid=grid)
