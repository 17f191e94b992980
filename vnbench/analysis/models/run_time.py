"""Compose the time of a whole training run from its parts: passes, updates, loading, validation, start-up, new shapes.

The fitted step model gives the time of each pass in the sampler's plan.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.models.epoch_time import EpochTime, SecondsT
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.step_fit import ForecastParts
from vnbench.analysis.models.step_model import StepModel
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.batching.plan import BatchPlan
from vnbench.records.record import TrialRecord

ROUGH_FORWARD_SHARE = 1 / 3
"""Share of the forward pass in a step if no trial measured it: a backward pass does twice its work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochPasses:
    """The passes of an epoch, counted by size."""

    padded_pixels_C: NDArray[np.float64]
    """Distinct padded pixels of passes, ascending."""
    counts_C: NDArray[np.int64]
    """Number of passes of each size."""
    shape_pixels_K: NDArray[np.float64]
    """Pixels of the canvas of each distinct shape: canvas and number of examples."""
    num_steps: int
    """Number of optimizer steps."""
    num_examples: int
    """Number of examples."""

    @property
    def num_passes(self) -> int:
        """The number of passes of all sizes."""
        return int(self.counts_C.sum())

    @classmethod
    def of(cls, plan: BatchPlan) -> EpochPasses:
        """Return the passes of a plan."""
        sizes_C, counts_C = np.unique(plan.padded_pixels_M, return_counts=True)
        # A side has fewer than 2**20 pixels, so one number identifies a shape.
        shapes_M = (plan.lengths_M << 40) + (plan.canvases_M2[:, 0] << 20) + plan.canvases_M2[:, 1]
        _, first_K = np.unique(shapes_M, return_index=True)
        return cls(
            padded_pixels_C=sizes_C.astype(np.float64),
            counts_C=counts_C.astype(np.int64),
            shape_pixels_K=plan.canvases_M2[first_K].prod(axis=1).astype(np.float64),
            num_steps=len(plan.passes_S),
            num_examples=len(plan.order_N),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTime:
    """The time of a run without interruptions and snapshots."""

    num_epochs: int
    """Number of epochs."""
    num_steps: int
    """Optimizer steps of an epoch."""
    computing: ForecastParts
    """Forecast of an epoch's passes, with its errors."""
    saved_s: float
    """Seconds of an epoch's updates that accumulation saves."""
    loading: Estimate | None
    """Seconds that the loader alone needs for an epoch; None if not measured."""
    has_workers: bool
    """Whether workers load while the training process computes."""
    validation_s: float
    """Seconds of the forward passes over the validation examples, after each epoch."""
    new_shapes_s: float
    """Extra seconds for new shapes, once in the run."""
    start_up_s: float
    """Seconds from the start of the process to its first step, once in the run."""
    extrapolated_ratio: float
    """Share of the passes whose padded pixels lie outside the measured range."""
    bracket: tuple[float, float] = (1.0, 1.0)
    """Lower and upper end of the computing over its central value, if it was forecast and not measured."""

    @property
    def epoch(self) -> EpochTime[float]:
        """The forecast of an epoch."""
        loading_s = 0.0 if self.loading is None else self.loading.value
        return self.epoch_of(computing_s=self.computing.total_s - self.saved_s, loading_s=loading_s)

    def epoch_of(self, *, computing_s: SecondsT, loading_s: SecondsT) -> EpochTime[SecondsT]:
        """Return the time of an epoch with the given computing and loading, such as draws of them."""
        return EpochTime(
            computing_s=computing_s, loading_s=loading_s, has_workers=self.has_workers, validation_s=self.validation_s
        )

    @property
    def once_s(self) -> float:
        """Seconds that occur once in the run: start-up and new shapes."""
        return self.start_up_s + self.new_shapes_s

    @property
    def work_s(self) -> float:
        """Seconds of all epochs."""
        return self.num_epochs * self.epoch.total_s

    @property
    def total_s(self) -> float:
        """Seconds of the run."""
        return self.once_s + self.work_s

    @property
    def step_s(self) -> float:
        """Mean seconds of an optimizer step, without validation."""
        return (self.epoch.total_s - self.validation_s) / self.num_steps


def compose_run(
    family: FamilyFit,
    *,
    training: EpochPasses,
    validation: EpochPasses | None,
    num_epochs: int,
    loading_per_example: Estimate | None,
    num_workers: int,
    start_up_s: float,
) -> RunTime:
    """Return the time of a run whose epochs all have the given passes.

    A validation pass is taken as the forward share of a step on the same canvas; without gradients it takes a little
    less.
    """
    fit = family.fit
    validation_s = 0.0
    if validation is not None:
        share = ROUGH_FORWARD_SHARE if family.forward_ratio is None else family.forward_ratio
        validation_s = share * fit.forecast_parts(validation.padded_pixels_C, validation.counts_C).total_s
    low, high = fit.model.smallest_pixels, fit.model.largest_pixels
    outside = training.counts_C[(training.padded_pixels_C < low) | (training.padded_pixels_C > high)].sum()
    return RunTime(
        num_epochs=num_epochs,
        num_steps=training.num_steps,
        computing=fit.forecast_parts(training.padded_pixels_C, training.counts_C),
        saved_s=family.saved_s(num_passes=training.num_passes, num_steps=training.num_steps),
        loading=None if loading_per_example is None else loading_per_example * training.num_examples,
        has_workers=num_workers > 0,
        validation_s=validation_s,
        new_shapes_s=family.new_shape_of_training.total_s(training.shape_pixels_K),
        start_up_s=start_up_s,
        extrapolated_ratio=float(outside) / training.num_passes,
        bracket=_bracket(family, training),
    )


def _bracket(family: FamilyFit, passes: EpochPasses) -> tuple[float, float]:
    if family.forecast is None:
        return 1.0, 1.0

    def seconds(model: StepModel) -> float:
        return float(passes.counts_C @ (model.basis(passes.padded_pixels_C) @ np.array(model.coefficients)))

    central_s = seconds(family.fit.model)
    return seconds(family.forecast.low) / central_s, seconds(family.forecast.high) / central_s


def measured_start_up_s(records: Iterable[TrialRecord]) -> float | None:
    """Return the median seconds that training trials took besides their steps; None without such trials.

    This is the time to start the process, import, read the corpus and build the network, and on CUDA to visit every
    shape.
    """
    found = []
    for record in records:
        if record.kind != "training" or record.status != "ok" or record.steps is None:
            continue
        times = [seconds for seconds in record.steps["step_time_s"] if seconds is not None]
        # The comparison before timing belongs to the trial, not to a training run.
        compared_s = 0.0 if record.equality is None else record.equality.elapsed_s
        found.append(max(0.0, record.elapsed_s - compared_s - sum(times)))
    return statistics.median(found) if found else None
