"""What a plan found, for programs, and what there is to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vnbench.analysis.models.run_time import RunTime
from vnbench.analysis.planning.capacity import Asked, PlannedRun, pareto_front
from vnbench.analysis.planning.configurations import Measured
from vnbench.analysis.planning.spread import Finish, Part
from vnbench.output.words.commands import Options, sweep_command
from vnbench.output.words.provenance import Provenance
from vnbench.records.record import TrialRecord
from vnbench.sweep.disturbances import is_disturbed
from vnbench.units import count

SAME_MODEL = 0.08
"""How far devices of one model lie apart on average: Sinha and others, Not all GPUs are created equal (2022,
arXiv 2208.11035)."""

OTHER_MODEL = 0.25
"""What a time scaled to another model may be off by to either side: nobody has measured it there."""

Tier = Literal[
    "measured", "interpolated", "extrapolated", "forecast", "same GPU elsewhere", "other GPU", "never measured"
]
"""How far a figure was measured; of the last two there are brackets, and no single number."""

MEMORY: Options = {"kind": "memory"}
LOADING: Options = {"kind": "loader"}
SNAPSHOTS: Options = {"kind": "snapshot"}
"""Options of sweeps that measure the worst case, loading, and what snapshots and going on from one cost."""

LIKELY = 0.9
"""Probability of finishing from which a run is said to finish in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanReport:
    """What a plan found."""

    asked: Asked
    """The run."""
    values: Mapping[str, Any]
    """The options, understood."""
    runs: tuple[PlannedRun, ...]
    """All configurations, the fastest first."""
    recommended: PlannedRun
    """The one to take."""
    current: PlannedRun
    """The one that changes start from."""
    changes: tuple[tuple[str, PlannedRun], ...]
    """Configurations that differ from it in one lever, with the lever."""
    shares: Mapping[Part, float]
    """Share of each part in the spread of the recommended run."""
    warnings: tuple[str, ...]
    """What there is to know."""
    origin: Provenance
    """Where the records were measured."""
    sources: tuple[Path, ...]
    """The records' files."""
    measured: Measured
    """What they say that runs are composed of."""

    @property
    def fits_in_time(self) -> PlannedRun | None:
        """The cheapest change of the current configuration that finishes in the window; itself where it does already.

        None without a window, or where no single change does.
        """
        if self.asked.window_s is None:
            return None
        candidates = [self.current, *(run for _, run in self.changes)]
        return next((one for one in candidates if one.verdict in ("fits", "tight") and is_likely(one.finish)), None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "device": self.origin.device_name,
            "sources": [str(path) for path in self.sources],
            "num_examples": len(self.asked.train_sizes_N2),
            "num_epochs": self.asked.num_epochs,
            "window_s": self.asked.window_s,
            "recommended": self._as_json(self.recommended) | {"shares": dict(self.shares)},
            "current": self._as_json(self.current),
            "changes": [
                {
                    "lever": lever,
                    "from": self.current.levers[lever],
                    "to": run.levers[lever],
                    "saved_s": finite(self.current.finish.p50 - run.finish.p50),
                    "saved_bytes": saved_bytes(self.current, run),
                    **self._as_json(run),
                }
                for lever, run in self.changes
            ],
            "fits_in_time": None if self.fits_in_time is None else self._as_json(self.fits_in_time),
            "pareto_front": [self._as_json(run) for run in pareto_front(self.runs)],
            "configurations": [self._as_json(run) for run in self.runs],
            "interruption_costs": {
                "snapshot_s": self.asked.interruptions.snapshot_s,
                "restart_s": self.asked.interruptions.restart_s,
                "source": self.asked.interruptions.source,
            },
            "warnings": list(self.warnings),
        }

    @property
    def tier(self) -> Tier:
        """How far the recommended configuration was measured, on the device that is asked for."""
        return self.tier_of(self.recommended)

    def tier_of(self, one: PlannedRun) -> Tier:
        """Return how far a configuration was measured, on the device that is asked for."""
        scale = self.values.get("device-scale")
        if scale is None:
            return one.evidence
        if self.origin.is_cpu:
            return "never measured"
        return "same GPU elsewhere" if scale == 1 else "other GPU"

    @property
    def bracket(self) -> tuple[float, float]:
        """Factors of the earliest and the latest finish on the device that is asked for."""
        scale = self.values.get("device-scale")
        if scale is None:
            return 1.0, 1.0
        margin = SAME_MODEL if self.tier == "same GPU elsewhere" else OTHER_MODEL
        return scale * (1 - margin), scale * (1 + margin)

    @property
    def is_bracket(self) -> bool:
        """Whether there is no single number, only a bracket."""
        return self.tier in ("other GPU", "never measured")

    def _as_json(self, one: PlannedRun) -> dict[str, Any]:
        low, high = self.bracket
        finish, other, per_epoch = one.finish, one.finish_without_snapshots, one.finish_per_epoch

        def single(value: float | None) -> float | None:
            return None if self.is_bracket or value is None else finite(value)

        return {
            "spec": dict(one.levers),
            "family": one.family.family,
            "wall_clock_s": {
                "p10": finite(low * finish.p10),
                "p50": single(finish.p50),
                "p90": finite(high * finish.p90),
                "mean": single(finish.mean),
            },
            "probability_finish": single(finish.probability),
            "without_snapshots": {"p50": single(other.p50), "probability_finish": single(other.probability)},
            "snapshot_per_epoch": {"p50": single(per_epoch.p50), "probability_finish": single(per_epoch.probability)},
            "snapshot_interval_s": single(one.interval_s),
            "snapshot_interval_steps": one.interval_steps,
            "peak_reserved_bytes": one.need_bytes,
            "fits": one.verdict,
            "evidence": self.tier_of(one),
            "epoch_s": one.run.epoch.total_s,
            "steps_per_epoch": one.run.num_steps,
            "computing_s": one.run.epoch.computing_s,
            "loading_s": None if one.run.loading is None else one.run.loading.value,
            "validation_s": one.run.validation_s,
            "new_shapes_s": one.run.new_shapes_s,
            "start_up_s": one.run.start_up_s,
            **self._cost(one),
        }

    def _cost(self, one: PlannedRun) -> dict[str, Any]:
        hours = one.finish.mean / 3600
        price = self.values.get("price-per-hour")
        found: dict[str, Any] = {} if price is None else {"device_hours": finite(hours), "cost": finite(price * hours)}
        energy_kwh = None if one.power_w is None else finite(hours * one.power_w / 1000)
        return found | {"energy_kwh": energy_kwh}


def is_likely(finish: Finish) -> bool:
    """Return whether a run is said to finish in its window."""
    return finish.probability is not None and finish.probability >= LIKELY


def saved_bytes(current: PlannedRun, other: PlannedRun) -> float | None:
    """Return the bytes of worst-case memory that a change saves; None where either is not known."""
    if current.need_bytes is None or other.need_bytes is None:
        return None
    return current.need_bytes - other.need_bytes


def finite(value: float) -> float | None:
    """Return a number, or None for one that JSON cannot write: a run that never finishes."""
    return value if np.isfinite(value) else None


def plan_warnings(
    asked: Asked,
    recommended: PlannedRun,
    current: PlannedRun,
    runs: Sequence[PlannedRun],
    left_out: Mapping[str, str],
    *,
    num_unloaded: int,
    samplers_left_out: Sequence[str],
    is_cpu: bool,
    trials: Sequence[TrialRecord],
    values: Mapping[str, Any],
    options: Options,
) -> tuple[str, ...]:
    """Return what there is to know of a plan, line by line.

    ``left_out`` are families that could not be fitted, ``num_unloaded`` configurations without a loader that has the
    workers asked for, ``samplers_left_out`` samplers that were measured and with which nothing is planned, ``trials``
    those whose times the plan is made of, ``options`` those of a sweep that would measure more.
    """
    found = [*_of_evidence(recommended, values, is_cpu=is_cpu, options=options)]
    if recommended.evidence == "extrapolated" and not recommended.family.is_rough:
        found.append(
            f"extrapolated: {100 * recommended.run.extrapolated_ratio:.0f} % of the passes lie outside of the sizes "
            "that were timed; the interval is too narrow by an unknown amount"
        )
    if num_disturbed := sum(map(is_disturbed, trials)):
        was = "was" if num_disturbed == 1 else "were"
        found.append(
            f"{num_disturbed} of {count(len(trials), 'trial')} behind this plan {was} disturbed: its times hold for a "
            "machine as busy as that; measure again on a quiet one"
        )
    found += _of_loading(recommended.run, options)
    if not recommended.family.fit.is_between_measured:
        command = sweep_command(options, {"kind": recommended.family.source, "replicates": "3"})
        found.append(f"run-to-run differences were not measured: 3 % is assumed; measure them with: {command}")
    if recommended.verdict == "tight":
        found.append("tight: less than 10 % of the memory is free")
    if current is not recommended and current.levers["batch_size"] != recommended.levers["batch_size"]:
        ratio = recommended.levers["batch_size"] / current.levers["batch_size"]
        found.append(
            f"the batch changes from {current.levers['batch_size']} to {recommended.levers['batch_size']} "
            f"({ratio:g} times): "
            "configurations are compared at equal epochs; how many epochs the network needs is not predicted. Batch "
            "and learning rate set one noise scale (Smith and others 2018, arXiv 1711.00489): tune the rate anew, from "
            "one in proportion to the batch, with a warm-up (Goyal and others 2017, arXiv 1706.02677)"
        )
    if asked.window_s is not None and recommended.finish.p50 > asked.window_s:
        found.append("the run will probably take longer than the window")
    unknown = sum(one.verdict == "unknown" for one in runs)
    if unknown:
        found.append(f"worst-case memory is not known for {unknown} of {count(len(runs), 'configuration')}")
    if num_unloaded:
        workers = {"num-workers": ",".join(map(str, asked.num_workers or ()))}
        found.append(
            f"{count(num_unloaded, 'more configuration')} could be planned if a loader of that micro-batch and number "
            f"of workers were measured; measure it with: {sweep_command(options, {**LOADING, **workers})}"
        )
    if left_out:
        found.append(f"not planned, as no curve could be fitted: {count(len(left_out), 'family')}")
    if samplers_left_out:
        found.append(
            f"nothing is planned with {' and '.join(samplers_left_out)}: a plan needs passes of one number of "
            "examples, in an order that one would train with; vnbench report shows their trials"
        )
    if recommended.family.is_rough:
        found.append(
            f"only {count(recommended.family.fit.num_sizes, 'size')} timed: times are assumed to grow with the padded "
            f"pixels, with an error of 10 %; measure with: {sweep_command(options, {'kind': 'compute'})}"
        )
    if recommended.verdict == "unknown":
        found.append(f"whether the worst case fits was not measured; measure it with: {sweep_command(options, MEMORY)}")
    inside = asked.interruptions
    if not inside.is_none and inside.source is None and not {"snapshot-cost", "restart-cost"} <= values.keys():
        found.append(
            "what snapshots and a restart cost is assumed, where it was not given; measure it with: "
            f"{sweep_command(options, SNAPSHOTS)}"
        )
    if "device-scale" in values:
        found.append("that device was not measured: the times are a range, not a forecast")
    return tuple(found)


def _of_evidence(
    recommended: PlannedRun, values: Mapping[str, Any], *, is_cpu: bool, options: Options
) -> Iterator[str]:
    """Yield what a plan rests on, and for which sizes it holds."""
    is_forecast = recommended.evidence == "forecast"
    if is_cpu:
        yield "measured on a CPU: no forecast for a GPU"
    if is_forecast:
        yield (
            "forecast: nothing was measured, and brackets stand for what that leaves open; once the card is at hand: "
            f"{sweep_command(options, {})}"
        )
    if not any(values.get(name) for name in ("widths", "heights", "sizes")):
        timed = "forecast" if is_forecast else "timed"
        yield f"the sizes are the padded ones that were {timed}; for yours give --widths and --heights, or --sizes"


def _of_loading(run: RunTime, options: Options) -> Iterator[str]:
    if run.loading is None:
        command = sweep_command(options, LOADING)
        yield f"loading was not measured: the loader is assumed to keep up; measure it with: {command}"
    elif run.loading.se is None:
        command = sweep_command(options, {**LOADING, "replicates": "3"})
        yield f"the error of the loading times is unknown: 10 % is assumed; measure it with: {command}"
