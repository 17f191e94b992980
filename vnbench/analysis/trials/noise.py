"""What the repeated trials of a sweep say of its machine: run-to-run spread, and drift."""

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
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.records.values.once import once_per_object

TIMED_KINDS: tuple[TrialKind, ...] = ("training", "compute", "loader")


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """How much the trials of a sweep differ when they are repeated."""

    spreads: Mapping[TrialKind, Spread]
    """Run-to-run spread by kind of trial, for the kinds that have a repeated spec."""
    drift: Drift | None
    """Drift over the sweep; None where nothing was repeated."""
    reference: TrialSpec | None
    """The spec that ran most often, of which ``drift`` holds the course; None where nothing was repeated."""

    def spread_kind(self, kind: TrialKind) -> TrialKind | None:
        """Return the kind whose spread holds for ``kind``: its own, or else the one that was measured."""
        return kind if kind in self.spreads else next(iter(self.spreads), None)

    def spread_for(self, kind: TrialKind) -> Spread | None:
        """Return the spread to use for a kind of trial; None where no spec ran in two processes."""
        chosen = self.spread_kind(kind)
        return None if chosen is None else self.spreads[chosen]


def measure_noise(latest: Sequence[TrialRecord]) -> Noise:
    """Return the noise between the timed trials of one machine with a valid timing.

    ``latest`` holds the last attempt of each trial only (summary.latest_attempts): an attempt that was made again
    because its machine was disturbed is no repetition.
    """
    spreads = {
        kind: spread for kind in TIMED_KINDS if (spread := spread_of(_figures_by_spec(latest, kind))) is not None
    }
    drift, reference = _drift(latest)
    return Noise(spreads=spreads, drift=drift, reference=reference)


@once_per_object
def process_figure(record: TrialRecord) -> Estimate | None:
    """Return one figure of a whole trial, in seconds per padded pixel; None where it has no valid timing.

    For a training trial that of its block; for a compute trial the sum of its canvases' mean step times over the sum of
    their pixels, which does not depend on how many steps each of them got.
    """
    if record.kind == "training":
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
    """Return the figures of every spec of a kind, each with its processes."""
    specs: dict[str, dict[object, list[Estimate]]] = {}
    for record in latest:
        if record.kind != kind:
            continue
        found = specs.setdefault(record.spec_id, {})
        if kind == "training":
            if (figure := process_figure(record)) is not None:
                found.setdefault(None, []).append(figure)
            continue
        for (name, is_cold), figure in stage_figures(record).items():
            # Those that training waits for: plans of a millisecond and cold disks have a noise of their own.
            if name in SUPPLYING and not is_cold:
                found.setdefault(name, []).append(figure)
        for canvas, figures in compute_figures(record).items():
            if figures.step_time is not None:
                found.setdefault(canvas, []).append(figures.step_time)
    return [list(figures.values()) for figures in specs.values()]


def _drift(latest: Sequence[TrialRecord]) -> tuple[Drift | None, TrialSpec | None]:
    """Return the drift of the timed trials, and the spec of its reference."""
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
