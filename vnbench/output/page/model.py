"""What stands in a report, before it is Markdown or HTML: the same records give the same model."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.sides import figures_of
from vnbench.analysis.findings import Findings
from vnbench.analysis.models.fit import MIN_FIT_SIZES, FamilyFit
from vnbench.analysis.models.step_fit import ROUGH_SIZE_ERROR
from vnbench.analysis.planning.spread import NUM_DRAWS
from vnbench.analysis.trials.process import why_not_timed
from vnbench.analysis.trials.time_breakdown import Concern
from vnbench.output.page.pages import Verbatim
from vnbench.output.plots.figures import Drawn
from vnbench.output.plots.style import NO_BREAK_SPACE
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe, kind_told, varying, worth_naming
from vnbench.output.words.numbers import format_estimate, significant
from vnbench.output.words.provenance import Provenance
from vnbench.output.words.row_notes import Row, row_notes
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.spec.axes import COMPUTING_LEVERS
from vnbench.records.spec.trial_spec import ForecastSpec, TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.units import count, format_byte_range, format_bytes

COLUMNS = (
    "kind",
    "configuration",
    "process",
    "try",
    "status",
    "s per Mpx",
    "s per step",
    "peak memory",
    "trial, s",
    "started (UTC)",
    "warnings",
    "cause",
)

TIME_NOTE = (
    "Training and loader trials are told in seconds per megapixel of images, padding not counted; compute trials in "
    "seconds per step, as the geometric mean over their canvases."
)

HOW = (
    "Each trial ran alone in a process of its own, in random order. CUDA events time the phases of a step on a GPU, "
    "and the wall clock times blocks of steps, with no synchronisation inside a block.",
    "Warm-up steps on every canvas are not counted. A trial ends when its interval is narrow enough, or at a limit "
    "that its record names.",
    "Worst-case memory comes from separate trials, on a micro-batch of the largest images alone.",
    TIME_NOTE,
    "The wall clock of a run takes every pass of the sampler's plan through the fitted step time, beside what the "
    "loader supplies, and adds validation, start-up and first steps on new shapes. Its range comes from "
    f"{NUM_DRAWS:,} draws.",
)

COMPARED = (
    "Before timing, one step of each configuration is compared with plain fp32 on the same canvas, weights and "
    "examples. Where its loss or gradient differs by more than rounding explains, the trial is marked wrong: its "
    "figures are kept, and it is never recommended."
)
"""Of trials whose records hold that comparison."""

NOT_COMPARED = "Whether each configuration computes what plain fp32 does: these trials were not compared with it."

HOW_OBSERVED = (
    "Observed runs were trained by loops of their own, and watched from inside: a row is an epoch, and all epochs of a "
    "process are one observation. Validation and steps with a snapshot do not count, nor do steps marked as warm-up.",
    TIME_NOTE,
)
"""Of runs that somebody else's loop trained, where there is nothing else."""

HOW_FORECAST = (
    "Each forecast traces a training step on tensors without numbers, under CUDA's rules, and follows PyTorch's "
    "caching allocator request by request. Nothing of it ran on the card.",
    "A forecast is a bracket from its lower to its upper end; vnbench guide no-gpu names what each end rests on. The "
    "wall clock of a run takes the bracket of time as a 90 % interval.",
)
"""Of forecasts."""

LIMITS = (
    "How good the trained network is, or how many epochs it needs: all configurations are compared at equal epochs.",
    "What another machine does: the figures hold for the device, driver and versions named here.",
    "How your images decode, where they are not like those measured.",
)

FORECAST_LIMIT = "What the card takes in truth: once it is at hand, vnbench sweep measures that."

MAX_DOUBTS = 4
"""Lines of notes on one kind of trial; the table of trials has the others."""

MAX_CAUSE_CHARACTERS = 160


def how_and_limits(origin: Provenance, *, has_plan: bool, is_compared: bool, kinds: Set[TrialKind]) -> dict[str, Any]:
    """Return how the figures of trials of some kinds came about, under its heading, and what they do not tell."""
    has_forecasts, is_observed = "forecast" in kinds, kinds <= {"observed", "forecast"}
    forecast = HOW_FORECAST if has_forecasts else ()
    if origin.is_forecast:
        how = [*forecast, *(HOW[-1:] if has_plan else ())]
        return {"how_title": "How it was forecast", "how": how, "limits": [LIMITS[0], FORECAST_LIMIT, LIMITS[-1]]}
    trials = HOW_OBSERVED if is_observed else (*(HOW_OBSERVED[:1] if "observed" in kinds else ()), *HOW[:-1])
    measured = (*trials, *(HOW[-1:] if has_plan else ()), *((COMPARED,) if is_compared else ()))
    limits = [*LIMITS, *(() if is_compared else (NOT_COMPARED,))]
    return {"how_title": "How it was measured", "how": [*measured, *forecast], "limits": limits}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """One try at a trial, as a row of the table."""

    cells: tuple[str, ...]
    """What is shown under COLUMNS."""
    keys: Mapping[int, float]
    """What the rows are sorted by, by column, where that is not what is shown."""
    is_bad: bool
    """Whether it did not end ``ok``."""


def figure_rows(drawn: Drawn) -> list[dict[str, str]]:
    """Return what a report holds of each figure; the page itself gets the smaller of its files, the SVG as a rule."""
    return [
        {
            "name": plot.words,
            "file": Verbatim(files[0].name),
            "uri": _uri(min(files, key=lambda file: file.stat().st_size)),
            "alt": plot.alt,
        }
        for plot, files in drawn.pictures.items()
    ]


def _uri(path: Path) -> str:
    kind = {".svg": "svg+xml", ".png": "png"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


FAMILY_LEVERS = ("model", "task", *COMPUTING_LEVERS)
"""Levers that trials of one family share, beside the micro-batch."""


def breakdown_view(concerns: Sequence[Concern]) -> View[Concern]:
    """Return the concerns of the training loop; shares are of all that was timed."""
    total = sum(one.per_example.value for one in concerns)

    def share(one: Concern) -> str | None:
        return f"{100 * one.per_example.value / total:.1f}{NO_BREAK_SPACE}%" if total > 0 else None

    return View(
        concerns,
        (
            Column("part of the loop", lambda one: one.name, align="left"),
            Column("provided by", lambda one: one.owner, align="left"),
            Column("time per example", lambda one: _milliseconds(one.per_example.value, one.per_example.half_width)),
            Column("share", share),
            Column("notes", lambda one: one.note, align="left"),
        ),
    )


def fits_view(families: Iterable[FamilyFit]) -> View[FamilyFit]:
    """Return the fitted model of each family that has one: its coefficients, and how far it can be believed."""
    families = tuple(one for one in families if not one.is_rough)
    differing = varying(one.spec for one in families)
    names = [name for name in FAMILY_LEVERS if name in differing]

    def family(one: FamilyFit) -> str:
        return ", ".join(filter(None, (f"micro-batch {one.spec.micro_batch_size}", describe(one.spec, names=names))))

    return View(families, (Column("family", family, align="left"), *FIT))


def rough_line(families: Iterable[FamilyFit]) -> str | None:
    """Return how many families have no fit, and what is taken in its place; None for none."""
    num_rough = sum(one.is_rough for one in families)
    if not num_rough:
        return None
    return (
        f"Not fitted: {count(num_rough, 'configuration')} with fewer than {MIN_FIT_SIZES} sizes timed. A line through "
        f"two sizes does not show its own error, so a plan takes {100 * ROUGH_SIZE_ERROR:.0f} % for it."
    )


def _per_mpx(one: FamilyFit) -> str:
    model = one.fit.model
    bend = "" if model.form in ("linear", "constant") else f" at first ({model.form})"
    return f"{_milliseconds(1e6 * model.coefficients[1])}{bend}"


def _left_out(one: FamilyFit) -> str | None:
    median, worst = one.fit.loo_error_median, one.fit.loo_error_max
    return None if median is None or worst is None else f"{100 * median:.1f} % (at most {100 * worst:.1f} %)"


def _memory(one: FamilyFit) -> str | None:
    if (law := one.memory) is None:
        return None
    told = f"{format_bytes(law.bytes_fixed)} + {format_bytes(1e6 * law.bytes_per_pixel)} per Mpx"
    return f"{told} (two sizes: error unknown)" if law.loo_error_max is None else told


def _run_to_run(one: FamilyFit) -> str:
    return f"{100 * one.fit.between:.1f} %{'' if one.fit.is_between_measured else ' (assumed)'}"


FIT: tuple[Column[FamilyFit], ...] = (
    Column("time per step", lambda one: _milliseconds(one.fit.model.overhead_s)),
    Column("and per padded Mpx", _per_mpx),
    Column("sizes timed", lambda one: one.fit.num_sizes),
    Column("error at a size left out", _left_out),
    Column("run-to-run difference", _run_to_run),
    Column("peak memory", _memory),
)
"""What is told of a fit."""


def _milliseconds(seconds: float, half_width_s: float | None = None) -> str:
    told = significant(1e3 * seconds) if half_width_s is None else format_estimate(1e3 * seconds, 1e3 * half_width_s)
    return f"{told} ms".replace(" ", NO_BREAK_SPACE)


def trial_rows(records: Sequence[TrialRecord]) -> tuple[TrialRow, ...]:
    """Return a row per record, in their order."""
    names = _names(records)
    return tuple(
        _forecast_row(record, name=names[record.spec_id])
        if is_of_kind(record, ForecastSpec)
        else _row(record, name=names[record.spec_id])
        for record in records
    )


def are_compared(records: Iterable[TrialRecord]) -> bool:
    """Return whether the steps of all trials that ended were compared with the plain one; older records were not."""
    timed = [record for record in records if record.kind in ("compute", "training") and record.status == "ok"]
    return bool(timed) and all(record.equality is not None for record in timed)


def doubts(found: Findings) -> tuple[str, ...]:
    """Return what gives reason to doubt the timed trials, kind by kind: disturbances, noise and failed processes."""
    told: list[str] = []
    kinds: Sequence[tuple[str, Sequence[Row]]] = (
        ("training", found.training),
        ("compute", found.compute),
        ("loader", found.loading),
    )
    for kind, rows in kinds:
        lines = [line.removeprefix("! ") for line in row_notes([row for row in rows if row.num_processes])]
        more = len(lines) - MAX_DOUBTS
        lines = [*lines[:MAX_DOUBTS], *([f"{more} more, in the table of trials"] if more > 0 else [])]
        told += [f"{kind} trials: {line}" for line in lines]
    return tuple(told)


def environment_rows(records: Sequence[TrialRecord]) -> tuple[tuple[str, str], ...]:
    """Return what all records' machines and software say, name by name; several values where they differ."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for name, value in record.environment.items():
            if isinstance(value, (str, int, float, bool)):
                told = format_bytes(value) if name.endswith("_bytes") and isinstance(value, int) else str(value)
                found.setdefault(name, {})[told] = None
    rows = []
    for name, values in sorted(found.items()):
        shown = list(values)[:3]
        more = f", and {len(values) - 3} more" if len(values) > 3 else ""
        rows.append((name.removesuffix("_bytes").replace("_", " "), ", ".join(shown) + more))
    return tuple(rows)


def _names(records: Sequence[TrialRecord]) -> Mapping[str, str]:
    by_kind: dict[str, dict[str, TrialSpec]] = {}
    for record in records:
        by_kind.setdefault(kind_told(record.spec), {})[record.spec_id] = record.spec
    found: dict[str, str] = {}
    for specs in by_kind.values():
        chosen = [name for name in worth_naming(specs.values()) if name in varying(specs.values())]
        found |= {spec_id: describe(spec, names=chosen) or "the only one" for spec_id, spec in specs.items()}
    return found


def _forecast_row(record: TrialRecord[ForecastSpec], *, name: str) -> TrialRow:
    """Return a row of what a step of the worst case is forecast to take: brackets."""
    card = record.card
    step = card and card.worst_case.step_time_s
    cells = (
        record.kind,
        f"{record.spec.card}: {name}",
        str(record.replicate + 1),
        str(record.attempt + 1),
        record.status,
        "",
        f"{significant(step.low)} to {significant(step.high)}" if step else "",
        format_byte_range(card.device_bytes.low, card.device_bytes.high) if card else "",
        significant(record.elapsed_s),
        record.started_at.replace("T", " ")[:19],
        "",
        (f"on the card: {card.verdict}" if card else _cause(record)),
    )
    keys: dict[int, float] = {} if card is None else {COLUMNS.index("peak memory"): card.device_bytes.high}
    if step:
        keys[COLUMNS.index("s per step")] = step.central
    return TrialRow(cells=cells, keys=keys, is_bad=record.status != "ok")


def _cause(record: TrialRecord) -> str:
    """Return why a trial did not end ``ok``; empty if it did."""
    cause = "" if record.cause is None else f"{record.cause.kind}: {record.cause.message}"
    return cause if len(cause) <= MAX_CAUSE_CHARACTERS else cause[: MAX_CAUSE_CHARACTERS - 3] + "..."


def _row(record: TrialRecord, *, name: str) -> TrialRow:
    figures = figures_of(record, notes=[]) if record.status == "ok" else {}
    time_s, is_compute = figures.get("time"), record.kind == "compute"
    peak = figures.get("reserved") or figures.get("memory")
    cause = _cause(record)
    if record.status == "ok" and record.kind != "memory":
        cause = why_not_timed(record) or ""
    cells = (
        kind_told(record.spec),
        name,
        str(record.replicate + 1),
        str(record.attempt + 1),
        record.status,
        "" if time_s is None or is_compute else significant(time_s, digits=4),
        "" if time_s is None or not is_compute else significant(time_s, digits=4),
        "" if peak is None else format_bytes(peak),
        significant(record.elapsed_s),
        record.started_at.replace("T", " ")[:19],
        ", ".join(sorted({warning.code for warning in record.warnings})),
        cause,
    )
    keys: dict[int, float] = {} if peak is None else {COLUMNS.index("peak memory"): peak}
    return TrialRow(cells=cells, keys=keys, is_bad=record.status != "ok")
