"""How long training waits for its loader, beside what loader and compute trials by themselves let one expect."""

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
"""Fields of a training spec that its loader shares."""

COMPUTING = ("micro_batch_size", "model", *COMPUTING_LEVERS)
"""Fields of a training spec that its computing shares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """One training spec, and what its parts by themselves take for a step."""

    training: TrialSummary
    """What was measured as a whole."""
    step: EpochTime[float]
    """A step of its loader alone, and of passes on batches that lie on the device already."""

    @property
    def expected_wait_ratio(self) -> float:
        """Share of a step that is spent waiting for data then."""
        return 1 - self.step.computing_s / self.step.total_s


def overlaps(
    training: Iterable[TrialSummary], *, loading: Iterable[LoaderSummary], computing: Iterable[ComputeSummary]
) -> tuple[Overlap, ...]:
    """Return the training specs whose loader and computing were measured by themselves, each in its own trial.

    The time of a pass is that at the mean padded pixels of the measured steps' passes; where no canvases lie around
    them nothing is told.
    """
    loaders = {key_of(row.spec, LOADING): row for row in loading if row.supply is not None}
    computes = {key_of(row.spec, COMPUTING): row for row in computing if row.canvases}
    found = []
    for row in training:
        loader, compute = loaders.get(key_of(row.spec, LOADING)), computes.get(key_of(row.spec, COMPUTING))
        if loader is None or loader.supply is None or compute is None or row.step_time is None:
            continue
        if row.padded_px_per_s is None or row.spec.shape_visits == "cold":  # computing alone is timed warm
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
    """Return the values of some fields of a spec, by which it is matched with others.

    Without workers there is nothing that only workers have.
    """
    plain = spec if spec.num_workers else replace(spec, worker_kind="processes", persistent_workers="on")
    return tuple(getattr(plain, name) for name in names)
