"""A whole training run composed of its parts: passes, updates, loading, validation, start-up, shapes, snapshots.

Each pass of the sampler's own plan goes through the fitted step model. What loads beside computing is hidden behind it
or hides it; what loads in the training process adds up.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vnbench.analysis.fit import FamilyFit
from vnbench.analysis.step_fit import ForecastParts
from vnbench.data.plan import BatchPlan
from vnbench.record import TrialRecord

ROUGH_FORWARD_SHARE = 1 / 3
"""Share of a step that its forward pass takes where no trial told: a backward pass does twice the work of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTime:
    """The seconds of a run without interruptions and snapshots."""

    num_epochs: int
    """Passes over the training examples."""
    num_steps: int
    """Optimizer steps of an epoch."""
    computing: ForecastParts
    """Passes of an epoch, and what they may be off by."""
    saved_s: float
    """Seconds of an epoch that accumulated passes do without: a compute trial makes an update after each."""
    loading_s: float | None
    """Seconds in which the loader alone supplies an epoch; None where that was not measured."""
    has_workers: bool
    """Whether loading goes on beside computing."""
    validation_s: float
    """Forward passes over the validation examples, after each epoch."""
    new_shapes_s: float
    """Shapes that are met for the first time, once in the run."""
    start_up_s: float
    """From the start of the process to its first step, once."""
    extrapolated_ratio: float
    """Share of the passes whose padded pixels lie outside of those measured."""

    @property
    def computing_s(self) -> float:
        """Seconds of an epoch that computing takes."""
        return self.computing.total_s - self.saved_s

    @property
    def bracket_s(self) -> tuple[float, float]:
        """Least and most that an epoch's computing and loading take together: the longer one, and their sum."""
        loading_s = self.loading_s or 0.0
        return max(self.computing_s, loading_s), self.computing_s + loading_s

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch, validation included."""
        low, high = self.bracket_s
        return (low if self.has_workers else high) + self.validation_s

    @property
    def total_s(self) -> float:
        """Seconds of the run."""
        return self.start_up_s + self.new_shapes_s + self.num_epochs * self.epoch_s

    @property
    def step_s(self) -> float:
        """Mean seconds of an optimizer step."""
        return (self.epoch_s - self.validation_s) / self.num_steps


def compose_run(
    family: FamilyFit,
    *,
    training: BatchPlan,
    validation: BatchPlan | None,
    num_epochs: int,
    loading_s_per_example: float | None,
    num_workers: int,
    start_up_s: float,
) -> RunTime:
    """Return the time of a run whose epochs all look like the plan given.

    A validation pass takes the forward share of a step on the same canvas: without gradients it takes a little less.
    """
    passes: Sequence[float] = training.padded_pixels_M.tolist()
    shapes = set(zip(training.lengths_M.tolist(), map(tuple, training.canvases_M2.tolist()), strict=True))
    validation_s = 0.0
    if validation is not None:
        share = ROUGH_FORWARD_SHARE if family.forward_ratio is None else family.forward_ratio
        validation_s = share * sum(map(family.fit.model.time_s, validation.padded_pixels_M.tolist()))
    low, high = family.fit.model.smallest_pixels, family.fit.model.largest_pixels
    outside = int(((training.padded_pixels_M < low) | (training.padded_pixels_M > high)).sum())
    return RunTime(
        num_epochs=num_epochs,
        num_steps=len(training.passes_S),
        computing=family.fit.forecast_parts(passes),
        saved_s=(len(passes) - len(training.passes_S)) * (family.optimizer_s or 0.0),
        loading_s=None if loading_s_per_example is None else len(training.order_N) * loading_s_per_example,
        has_workers=num_workers > 0,
        validation_s=validation_s,
        new_shapes_s=len(shapes) * family.s_per_new_shape,
        start_up_s=start_up_s,
        extrapolated_ratio=outside / len(passes),
    )


def measured_start_up_s(records: Iterable[TrialRecord]) -> float | None:
    """Return the median time that training trials took beside their steps; None where no trial tells.

    It is the time of the process, its imports, the corpus, the network, and on CUDA the first visit of every shape.
    """
    found = []
    for record in records:
        if record.kind != "training" or record.status != "ok" or record.steps is None:
            continue
        times = [seconds for seconds in record.steps["step_time_s"] if seconds is not None]
        found.append(max(0.0, record.elapsed_s - sum(times)))
    return statistics.median(found) if found else None
