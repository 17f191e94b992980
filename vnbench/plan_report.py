"""What a plan found, for programs, and what there is to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vnbench.analysis.capacity import Asked, PlannedRun, pareto_front
from vnbench.analysis.spread import Finish, Part
from vnbench.output.provenance import Provenance

BRACKET = 0.25
"""What a time scaled to another device may be off by to either side: nobody has measured it there."""

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
            "warnings": list(self.warnings),
        }

    def _as_json(self, one: PlannedRun) -> dict[str, Any]:
        scale = self.values.get("device-scale")
        low, high = (1.0, 1.0) if scale is None else (scale * (1 - BRACKET), scale * (1 + BRACKET))
        finish, other = one.finish, one.finish_without_snapshots
        return {
            "spec": dict(one.levers),
            "family": one.family.family,
            "wall_clock_s": {
                "p10": finite(low * finish.p10),
                "p50": finite(finish.p50) if scale is None else None,
                "p90": finite(high * finish.p90),
                "mean": finite(finish.mean) if scale is None else None,
            },
            "probability_finish": finish.probability if scale is None else None,
            "without_snapshots": {
                "p50": finite(other.p50) if scale is None else None,
                "probability_finish": other.probability if scale is None else None,
            },
            "snapshot_interval_s": one.interval_s if scale is None else None,
            "snapshot_interval_steps": None if one.interval_s is None else round(one.interval_s / one.run.step_s),
            "peak_reserved_bytes": one.need_bytes,
            "fits": one.verdict,
            "evidence": "other GPU" if scale is not None else one.evidence,
            "epoch_s": one.run.epoch_s,
            "steps_per_epoch": one.run.num_steps,
            "computing_s": one.run.computing_s,
            "loading_s": one.run.loading_s,
            "validation_s": one.run.validation_s,
            "new_shapes_s": one.run.new_shapes_s,
            "start_up_s": one.run.start_up_s,
            **self._cost(one),
        }

    def _cost(self, one: PlannedRun) -> dict[str, Any]:
        price = self.values.get("price-per-hour")
        hours = one.finish.mean / 3600
        return {} if price is None else {"device_hours": finite(hours), "cost": finite(price * hours)}


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
    is_cpu: bool,
    values: Mapping[str, Any],
) -> tuple[str, ...]:
    """Return what there is to know of a plan, line by line."""
    found = []
    if is_cpu:
        found.append("measured on a CPU: no forecast for a GPU")
    if recommended.evidence == "extrapolated":
        found.append(
            f"extrapolated: {100 * recommended.run.extrapolated_ratio:.0f} % of the passes lie outside of the sizes "
            "that were timed; the interval is too narrow by an unknown amount"
        )
    if recommended.run.loading_s is None:
        found.append("loading was not measured (vnbench sweep --kind loader): the loader is taken to keep up")
    if not recommended.family.fit.is_between_measured:
        found.append("what differs between processes was not measured; 3 % is taken for it (sweep --replicates 3)")
    if recommended.verdict == "tight":
        found.append("tight: less than a tenth of the memory is to spare")
    if current is not recommended and current.levers["batch_size"] != recommended.levers["batch_size"]:
        ratio = recommended.levers["batch_size"] / current.levers["batch_size"]
        found.append(
            f"the batch changes from {current.levers['batch_size']} to {recommended.levers['batch_size']} "
            f"({ratio:g} times): "
            "configurations are compared at equal epochs; how many epochs the network needs is not predicted, and the "
            "learning rate has to be tuned anew"
        )
    if asked.window_s is not None and recommended.finish.p50 > asked.window_s:
        found.append("the run takes longer than the window, more often than not")
    unknown = sum(one.verdict == "unknown" for one in runs)
    if unknown:
        found.append(
            f"{unknown} of {len(runs)} configurations have no worst-case memory trial, and are not recommended"
        )
    if left_out:
        found.append(f"{len(left_out)} families could not be fitted, and are not planned")
    if "device-scale" in values:
        found.append("scaled to a device that was not measured: brackets of 25 % to either side, not forecasts")
    return tuple(found)
