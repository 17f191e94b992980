"""Compose the time of measured training steps from their parts: the fitted step model and the loader's supply.

The only input from the training trial itself is its plan: the padded pixels of each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.models.epoch_time import EpochTime
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.overlap import LOADING, key_of
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.analysis.trials.process import why_not_timed
from vnbench.analysis.trials.steps import steps_of
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import TrainingSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """The measured time of one training trial's steps, and the time expected from their parts."""

    spec: TrainingSpec
    """Spec of the training trial."""
    computing: Estimate
    """Seconds of computing by the family's model, including first passes over new shapes."""
    new_shapes_s: float
    """Seconds in ``computing`` for new shapes, taken as exact."""
    loading_s: float | None
    """Seconds that the loader alone needs for the examples; None if not measured."""
    is_extrapolated: bool
    """Whether any pass lies outside the sizes that the model was fitted to."""
    measured_s: float
    """Wall-clock seconds of the measured steps."""

    @property
    def expected(self) -> EpochTime[float]:
        """The expected time from computing and loading."""
        return EpochTime(
            computing_s=self.computing.value, loading_s=self.loading_s or 0.0, has_workers=bool(self.spec.num_workers)
        )

    @property
    def error(self) -> float:
        """Relative error of the expected time: expected / measured - 1."""
        return self.expected.total_s / self.measured_s - 1


def compose_measured(
    records: Iterable[TrialRecord], *, families: Sequence[FamilyFit], loading: Sequence[LoaderSummary]
) -> tuple[Composition, ...]:
    """Return the compositions of all training trials with valid times whose family was fitted to compute trials."""
    by_family = {family.family: family for family in families if family.source == "compute"}
    loaders = {key_of(row.spec, LOADING): row for row in loading if row.supply is not None}
    found = []
    for record in of_kind(records, TrainingSpec):
        family = by_family.get(record.spec.family)
        if family is None or why_not_timed(record) is not None or record.block is None:
            continue
        passes = measured_passes(record)
        saved_s = family.saved_s(num_passes=len(passes), num_steps=record.block.num_steps)
        loader = loaders.get(key_of(record.spec, LOADING))
        supply = loader.supply if loader else None
        new_shapes_s = 0.0 if record.spec.visits_shapes else family.new_shape.total_s(new_shapes(record))
        computing = family.fit.forecast(passes, less_s=saved_s)
        found.append(
            Composition(
                spec=record.spec,
                computing=replace(computing, value=computing.value + new_shapes_s),
                new_shapes_s=new_shapes_s,
                loading_s=None if supply is None else record.block.num_examples * supply.time_per_example.value,
                is_extrapolated=any(map(family.fit.model.is_extrapolated, passes)),
                measured_s=record.block.wall_time_s,
            )
        )
    return tuple(found)


def measured_passes(record: TrialRecord) -> list[float]:
    """Return the padded pixels of each measured pass; the passes of one step are taken as equal."""
    steps = steps_of(record).measured
    passes_S = steps["num_micro_batches"]
    return np.repeat(steps["padded_pixels"] / passes_S, passes_S).tolist()


def new_shapes(record: TrialRecord) -> NDArray[np.float64]:
    """Return the pixels of the canvas of each shape that occurs in measured steps but not in warm-up."""
    columns = ("canvas_height", "canvas_width", "num_examples", "num_micro_batches")
    steps = steps_of(record)
    new = set(steps.measured.rows(*columns)) - set(steps.warm_up.rows(*columns))
    return np.array([height * width for height, width, *_ in new], dtype=np.float64)
