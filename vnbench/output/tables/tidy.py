"""What records hold as tidy tables for programs: trials, steps, canvases, and the configurations of a plan.

Each key ends in its unit: s, bytes, px; a ratio is of 1. A 95 % half-width follows its figure; it holds what differs
between processes where some trial of the records was repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, get_type_hints

from vnbench.analysis.models.certification import Certificate, certify
from vnbench.analysis.planning.capacity import CHEAPEST_FIRST
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.compute import CanvasSummary, summarize_compute
from vnbench.analysis.trials.loading import LoaderSummary, summarize_loading
from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import TrialSummary, summarize
from vnbench.output.view import Column, View
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import KINDS, LEVERS
from vnbench.records.step_columns import STEP_COLUMNS

SPEC_FIELDS = ("device", *LEVERS, "seed", "worst_case_height", "worst_case_width", "pixel_budget", "subset_size")
"""What is told of the spec of a trial: every lever, and sizes."""

WHOLE = frozenset(
    name for kind in KINDS.values() for name, hint in get_type_hints(kind).items() if hint in (int, int | None)
)
"""Fields of a spec that are whole numbers."""

FACTS = (
    "device_name",
    "torch_version",
    "cuda_version",
    "driver_version",
    "cpu_name",
    "cpu_capability",
    "num_cpus",
    "num_threads",
    "revision",
    "vnbench_version",
)
"""What is told of the environment of a trial."""


FIGURES = ("step_time_s", "epoch_time_s", "valid_px_per_s", "padded_px_per_s", "examples_per_s")
"""What is told of a trial with its half-width, where its kind has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial, and what follows from its record."""

    record: TrialRecord
    """What was observed."""
    spec: Mapping[str, Any]
    """What was asked, with the fields of all kinds."""
    figures: Mapping[str, Estimate]
    """By their keys (``training``, ``loader``)."""
    training: TrialSummary | None
    """What else its steps say (``training``)."""
    certificate: Certificate | None
    """What its worst case takes (``memory``)."""


class Step(NamedTuple):
    """One optimizer step of a trial."""

    trial_id: str
    """Identity of the trial."""
    number: int
    """Place among its steps, from 0, those of warm-up counted."""
    columns: Mapping[str, Sequence[Any]]
    """The columns of all its steps."""


class CanvasOfTrial(NamedTuple):
    """One canvas of a compute trial."""

    trial_id: str
    """Identity of the trial."""
    canvas: CanvasSummary
    """What was seen of it."""


def trials_view(latest: Sequence[TrialRecord]) -> View[Trial]:
    """Return the latest attempt at each trial, a row each."""
    noise = measure_noise(latest)
    rows = []
    for record in latest:
        training = next(iter(summarize((record,), noise=noise)), None)
        loading = next(iter(summarize_loading((record,), noise=noise)), None)
        rows.append(
            Trial(
                record=record,
                spec=record.spec.flat(),
                figures=_training_figures(training) if training else _loader_figures(loading) if loading else {},
                training=training,
                certificate=next(iter(certify((record,))), None),
            )
        )
    return View(rows, TRIALS)


def steps_view(latest: Sequence[TrialRecord]) -> View[Step]:
    """Return the optimizer steps of all trials, a row each."""
    rows: list[Step] = []
    for record in latest:
        trial_id, steps = record.trial_id, dict(record.steps or {})
        rows += (Step(trial_id, number, steps) for number in range(len(steps.get("is_warm_up", ()))))
    return View(rows, STEPS)


def canvases_view(latest: Sequence[TrialRecord]) -> View[CanvasOfTrial]:
    """Return the canvases of all compute trials, a row each."""
    noise = measure_noise(latest)
    rows: list[CanvasOfTrial] = []
    for record in latest:
        for summary in summarize_compute((record,), noise=noise):
            rows += (CanvasOfTrial(record.trial_id, canvas) for canvas in summary.canvases)
    return View(rows, CANVASES)


def _end_of(canvas: CanvasSummary, number: int) -> float | None:
    """Return an end of the interval of what a framework adds; None where there is none."""
    cost = canvas.over_own_loop
    return None if cost is None or cost.interval_s is None else cost.interval_s[number]


def plan_view(plan: Mapping[str, Any]) -> View[Mapping[str, Any]]:
    """Return the configurations of a plan, which is given as JSON tells it, a row each."""
    return View(plan["configurations"], PLAN)


def _training_figures(one: TrialSummary) -> dict[str, Estimate]:
    known = {
        "step_time_s": one.step_time,
        "epoch_time_s": one.epoch_time,
        "valid_px_per_s": one.valid_px_per_s,
        "padded_px_per_s": one.padded_px_per_s,
    }
    return {key: figure for key, figure in known.items() if figure is not None}


def _loader_figures(one: LoaderSummary) -> dict[str, Estimate]:
    """Return what the stage supplies whose end is a batch that training can take."""
    if (supply := one.supply) is None:
        return {}
    known = {"examples_per_s": supply.examples_per_s, "valid_px_per_s": supply.valid_px_per_s}
    return {key: supply.time_per_example.at(value) for key, value in known.items()}


def _at(path: str, type: type = str, *, key: str = "", has_half_width: bool = False) -> Column[Any]:
    """Return the column of what lies at a path of attributes and of keys; what is absent on the way is not known."""
    names = path.split(".")

    def value(row: Any) -> Any:
        for name in names:
            row = row.get(name) if isinstance(row, Mapping) else None if row is None else getattr(row, name)
        return row

    return Column(key or names[-1], value, type=type, has_half_width=has_half_width)


def _of_step(name: str) -> Column[Step]:
    kind = bool if name.startswith("is_") else float if name.endswith("_s") or name == "loss" else int
    # The first records lack some columns.
    return Column(name, lambda step: step.columns[name][step.number] if name in step.columns else None, type=kind)


def _type_of(name: str) -> type:
    return int if name in WHOLE else str


TRIALS: tuple[Column[Trial], ...] = (
    _at("record.trial_id"),
    _at("record.spec_id"),
    _at("record.spec.family"),
    _at("record.kind"),
    _at("record.replicate", int),
    _at("record.attempt", int),
    _at("record.status"),
    _at("record.cause.kind", key="cause"),
    _at("record.cause.message", key="cause_message"),
    Column("warnings", lambda trial: ",".join(sorted({one.code for one in trial.record.warnings})) or None, type=str),
    _at("record.started_at", datetime),
    _at("record.elapsed_s", float),
    *(_at(f"spec.{name}", _type_of(name)) for name in SPEC_FIELDS),
    *(_at(f"figures.{key}", float, has_half_width=True) for key in FIGURES),
    _at("training.num_steps", int),
    _at("training.data_wait_ratio", float),
    _at("training.padding_ratio", float),
    _at("training.power_w", float),
    _at("record.memory.instrument", key="memory_instrument"),
    _at("record.memory.peak_allocated_bytes", int),
    _at("record.memory.peak_reserved_bytes", int),
    _at("record.memory.num_alloc_retries", int),
    _at("certificate.need_bytes", int),
    _at("certificate.capacity_bytes", int),
    *(_at(f"record.environment.{name}", int if name.startswith("num_") else str) for name in FACTS),
)
"""What is told of a trial."""

STEPS: tuple[Column[Step], ...] = (_at("trial_id"), _at("number", int, key="step"), *map(_of_step, STEP_COLUMNS))
"""What is told of a step."""

CANVASES: tuple[Column[CanvasOfTrial], ...] = (
    _at("trial_id"),
    _at("canvas.height", int, key="canvas_height"),
    _at("canvas.width", int, key="canvas_width"),
    _at("canvas.num_examples", float),
    _at("canvas.valid_pixels", float),
    _at("canvas.padded_pixels", float),
    _at("canvas.num_steps", int),
    _at("canvas.step_time", float, key="step_time_s", has_half_width=True),
    *(_at(f"canvas.phases_s.{name}", float, key=f"{name}_s") for name in ("forward", "backward", "optimizer")),
    _at("canvas.first_seen_s", float),
    _at("canvas.valid_px_per_s", float),
    _at("canvas.padded_px_per_s", float),
    _at("canvas.examples_per_s", float),
    _at("canvas.flop_per_s", float),
    _at("canvas.flop_per_step", int),
    _at("canvas.peak_allocated_bytes", int),
    _at("canvas.peak_reserved_bytes", int),
    _at("canvas.host_growth_bytes", int),
    _at("canvas.over_own_loop.added_s", float, key="over_own_loop_s"),
    Column("over_own_loop_low_s", lambda row: _end_of(row.canvas, 0), type=float),
    Column("over_own_loop_high_s", lambda row: _end_of(row.canvas, 1), type=float),
    Column("stopped_by", lambda row: ",".join(row.canvas.stop_rules), type=str),
)
"""What is told of a canvas."""

PLAN: tuple[Column[Mapping[str, Any]], ...] = (
    _at("family"),
    *(_at(f"spec.{name}", _type_of(name)) for name in LEVERS if name in CHEAPEST_FIRST),
    *(_at(f"wall_clock_s.{name}", float, key=f"wall_clock_{name}_s") for name in ("p10", "p50", "p90", "mean")),
    _at("probability_finish", float),
    _at("snapshot_interval_s", float),
    _at("snapshot_interval_steps", int),
    _at("peak_reserved_bytes", float),
    _at("fits"),
    _at("evidence"),
    _at("epoch_s", float),
    _at("steps_per_epoch", int),
    _at("computing_s", float),
    _at("loading_s", float),
    _at("validation_s", float),
    _at("new_shapes_s", float),
    _at("start_up_s", float),
    _at("energy_kwh", float),
)
"""What is told of a configuration of a plan."""

TABLES: Mapping[str, Callable[[Sequence[TrialRecord]], View[Any]]] = {
    "trials": trials_view,
    "steps": steps_view,
    "canvases": canvases_view,
}
"""What vnbench export writes of the latest attempts, by name; a plan beside them."""
