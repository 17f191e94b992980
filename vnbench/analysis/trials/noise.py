"""Measure the noise of a machine from the repeated trials of a sweep: run-to-run spread and drift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.process_spread import Spread, spread_of
from vnbench.analysis.trials.drift import Drift, TimedFigure, fit_drift
from vnbench.analysis.trials.process import (
    SUPPLYING,
    compute_figures,
    measured_at_s,
    stage_figures,
    started_s,
    training_figures,
)
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.spec.trial_spec import TrainingSpec, TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.records.values.once import once_per_object

TIMED_KINDS: tuple[TrialKind, ...] = ("training", "compute", "loader", "observed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """The differences between repeated trials of a sweep."""

    spreads: Mapping[TrialKind, Spread]
    """Run-to-run spread by kind of trial, for the kinds with a repeated spec."""
    drift: Drift | None
    """Drift over the sweep; None without repeated trials."""
    reference: TrialSpec | None
    """The spec that ran most often, the reference of ``drift``; None without repeated trials."""

    def spread_kind(self, kind: TrialKind) -> TrialKind | None:
        """Return the kind whose spread to use for ``kind``: its own if measured, else the first that was."""
        return kind if kind in self.spreads else next(iter(self.spreads), None)

    def spread_for(self, kind: TrialKind) -> Spread | None:
        """Return the spread to use for a kind of trial; None if no spec ran in two processes."""
        chosen = self.spread_kind(kind)
        return None if chosen is None else self.spreads[chosen]


def measure_noise(latest: Sequence[TrialRecord]) -> Noise:
    """Return the noise between the trials of one machine that have valid times.

    ``latest`` must hold only the last attempt at each trial (summary.latest_attempts): a new attempt after a
    disturbance is not a repetition.
    """
    spreads = {
        kind: spread for kind in TIMED_KINDS if (spread := spread_of(_figures_by_spec(latest, kind))) is not None
    }
    drift, reference = _drift(latest)
    return Noise(spreads=spreads, drift=drift, reference=reference)


@once_per_object
def process_figure(record: TrialRecord) -> Estimate | None:
    """Return one figure for a whole trial, in seconds per padded pixel; None without valid times.

    For a training trial this is the figure of its block. For a compute trial it is the sum of the canvases' mean step
    times over the sum of their pixels, which does not depend on the number of steps on each canvas.
    """
    if is_of_kind(record, TrainingSpec):
        trained = training_figures(record)
        return trained.padded_time if trained else None
    canvases = [one for one in compute_figures(record).values() if one.padded_pixels]
    times = [one.step_time for one in canvases if one.step_time]
    if not times or len(times) != len(record.canvases or times):
        return None
    errors = [time.se for time in times if time.se is not None]
    total_s = Estimate(
        value=math.fsum(time.value for time in times),
        se=math.hypot(*errors) if len(errors) == len(times) else None,
        # The sum has at least the degrees of freedom of its least known part.
        dof=min(time.dof for time in times),
    )
    return total_s / math.fsum(one.padded_pixels or 0.0 for one in canvases)


def _figures_by_spec(latest: Iterable[TrialRecord], kind: TrialKind) -> list[list[list[Estimate]]]:
    """Return, for each spec of a kind, its figures, each as a list over processes."""
    specs: dict[str, dict[object, list[Estimate]]] = {}
    for record in latest:
        if record.kind != kind:
            continue
        found = specs.setdefault(record.spec_id, {})
        if is_of_kind(record, TrainingSpec):
            if (figure := process_figure(record)) is not None:
                found.setdefault(None, []).append(figure)
            continue
        for (name, is_cold), figure in stage_figures(record).items():
            # Only stages that training waits for: short plans and cold disks have different noise.
            if name in SUPPLYING and not is_cold:
                found.setdefault(name, []).append(figure)
        for canvas, figures in compute_figures(record).items():
            if figures.step_time is not None:
                found.setdefault(canvas, []).append(figures.step_time)
    return [list(figures.values()) for figures in specs.values()]


def _drift(latest: Sequence[TrialRecord]) -> tuple[Drift | None, TrialSpec | None]:
    """Return the drift of the timed trials and its reference spec; None and None without repetitions."""
    timed = [(record, figure) for record in latest if (figure := process_figure(record)) is not None]
    if not timed:
        return None, None
    # The sweep starts with its first trial of any kind.
    start_s = min(map(started_s, latest))
    specs: dict[TrialSpec, list[TimedFigure]] = {}
    for record, figure in timed:
        specs.setdefault(record.spec, []).append(TimedFigure(time_s=measured_at_s(record) - start_s, figure=figure))
    length_s = max(time.time_s for figures in specs.values() for time in figures)
    drift = fit_drift(list(specs.values()), length_s=length_s)
    return drift, list(specs)[drift.reference_index] if drift else None
