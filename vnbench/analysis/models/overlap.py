"""Compare how long training waits for its loader with the wait expected from loader and compute trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vnbench.analysis.models.epoch_time import EpochTime
from vnbench.analysis.trials.compute import ComputeSummary
from vnbench.analysis.trials.cost import split_by_range, time_of_passes
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.records.spec.axes import COMPUTING_LEVERS, LOADING_LEVERS
from vnbench.records.spec.trial_spec import TrialSpec

LOADING = ("batch_size", "micro_batch_size", "corpus_id", "subset_size", *LOADING_LEVERS)
"""Fields in which a training spec and its loader spec agree."""

COMPUTING = ("micro_batch_size", "model", *COMPUTING_LEVERS)
"""Fields in which a training spec and its compute spec agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """One training spec, and the time of a step from its parts."""

    training: TrialSummary
    """The measured training."""
    step: EpochTime[float]
    """Time of a step: loading alone, and computing on batches that are already on the device."""

    @property
    def expected_wait_ratio(self) -> float:
        """The expected share of a step that training waits for data."""
        return 1 - self.step.computing_s / self.step.total_s


def overlaps(
    training: Iterable[TrialSummary], *, loading: Iterable[LoaderSummary], computing: Iterable[ComputeSummary]
) -> tuple[Overlap, ...]:
    """Return the training specs whose loading and computing were also measured alone, in separate trials.

    The time of a pass is that at the mean padded pixels of the measured passes. Specs for which this mean lies outside
    the measured canvases are left out.
    """
    loaders = {key_of(row.spec, LOADING): row for row in loading if row.supply is not None}
    computes = {key_of(row.spec, COMPUTING): row for row in computing if row.canvases}
    found = []
    for row in training:
        loader, compute = loaders.get(key_of(row.spec, LOADING)), computes.get(key_of(row.spec, COMPUTING))
        if loader is None or loader.supply is None or compute is None or row.step_time is None:
            continue
        if row.padded_px_per_s is None or row.spec.shape_visits == "cold":  # compute trials are always warm
            continue
        num_passes = row.spec.accumulation_steps
        pixels = round(row.step_time.value * row.padded_px_per_s.value / num_passes)
        inside, _ = split_by_range(compute.canvases, [pixels])
        if inside:
            pass_s = time_of_passes(compute.canvases, inside, spread=compute.spread).value
            found.append(
                Overlap(
                    training=row,
                    step=EpochTime(
                        computing_s=num_passes * pass_s,
                        loading_s=row.spec.batch_size * loader.supply.time_per_example.value,
                        has_workers=bool(row.spec.num_workers),
                    ),
                )
            )
    return tuple(found)


def key_of(spec: TrialSpec, names: Iterable[str]) -> tuple[object, ...]:
    """Return the values of the named fields of a spec, as a key to match it with others.

    Without workers, levers that only affect workers are set to their defaults.
    """
    plain = spec if spec.num_workers else replace(spec, worker_kind="processes", persistent_workers="on")
    return tuple(getattr(plain, name) for name in names)
