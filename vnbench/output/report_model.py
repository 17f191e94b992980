"""What stands in a report, before it is Markdown or HTML: the same records give the same model."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.analysis.process import why_not_timed
from vnbench.analysis.sides import side_of
from vnbench.analysis.spread import NUM_DRAWS
from vnbench.output.levers import describe, varying, worth_naming
from vnbench.output.numbers import significant
from vnbench.record import TrialRecord
from vnbench.spec import TrialSpec
from vnbench.units import format_bytes

COLUMNS = (
    "kind",
    "configuration",
    "process",
    "try",
    "status",
    "time, s",
    "peak",
    "took, s",
    "started",
    "warnings",
    "cause",
)

TIME_NOTE = (
    "Time of a training or loader trial: seconds per megapixel of valid pixels; of a compute trial: the geometric mean "
    "over its canvases of the mean step."
)

HOW = (
    "Each trial ran in a process of its own, one after the other, in a drawn order; GPU phases by CUDA events, blocks "
    "by the wall clock, synchronised at the edges of a block and nowhere inside.",
    "Warm-up steps come first on every canvas and are not counted; measuring ends at a noise target, or where a cap "
    "says so in the record.",
    "Worst-case memory comes from trials of their own, on a micro-batch made only of the largest images.",
    TIME_NOTE,
    "Wall clock of a run: each pass of the sampler's own plan through the fitted step time, beside the loader's "
    f"supply, with validation, start-up and shapes met for the first time; its spread from {NUM_DRAWS:,} even draws.",
)

LIMITS = (
    "How good the trained network is, and how many epochs it needs: configurations are compared at equal epochs.",
    "What another machine does: figures hold for the device, driver and versions that are named here.",
    "How images decode that are not like those measured.",
)

MAX_CAUSE_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFigure:
    """A picture of a report."""

    name: str
    """What it shows."""
    file: str
    """Its file, beside the report."""
    uri: str
    """The picture itself as a data URI, so that the page needs no file beside it."""
    alt: str
    """What it shows, for who cannot see it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """One try at a trial, as a row of the table."""

    cells: tuple[str, ...]
    """What is shown under COLUMNS."""
    keys: tuple[float | str, ...]
    """What the rows are sorted by."""
    is_bad: bool
    """Whether it did not end ``ok``."""


def report_figures(paths: Iterable[Path], *, alts: Mapping[str, str]) -> tuple[ReportFigure, ...]:
    """Return the figures of some files; of each picture the SVG is taken."""
    return tuple(
        ReportFigure(
            name=path.stem.replace("_", " "),
            file=path.with_suffix(".png").name,
            uri="data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(),
            alt=alts.get(path.stem, path.stem.replace("_", " ")),
        )
        for path in paths
        if path.suffix == ".svg"
    )


def trial_rows(records: Sequence[TrialRecord]) -> tuple[TrialRow, ...]:
    """Return a row per record, in their order."""
    names = _names(records)
    return tuple(_row(record, name=names[record.spec_id]) for record in records)


def environment_rows(records: Sequence[TrialRecord]) -> tuple[tuple[str, str], ...]:
    """Return what all records' machines and software say, name by name; several values where they differ."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for name, value in record.environment.items():
            if isinstance(value, (str, int, float, bool)):
                found.setdefault(name, {})[str(value)] = None
    rows = []
    for name, values in sorted(found.items()):
        shown = list(values)[:3]
        more = f", and {len(values) - 3} more" if len(values) > 3 else ""
        rows.append((name.replace("_", " "), ", ".join(shown) + more))
    return tuple(rows)


def _names(records: Sequence[TrialRecord]) -> Mapping[str, str]:
    by_kind: dict[str, dict[str, TrialSpec]] = {}
    for record in records:
        by_kind.setdefault(record.kind, {})[record.spec_id] = record.spec
    found: dict[str, str] = {}
    for specs in by_kind.values():
        chosen = [name for name in worth_naming(specs.values()) if name in varying(specs.values())]
        found |= {spec_id: describe(spec, names=chosen) or "-" for spec_id, spec in specs.items()}
    return found


def _row(record: TrialRecord, *, name: str) -> TrialRow:
    (configuration,) = side_of([record]).configurations.values()
    time_s = configuration.figures.get("time")
    peak = configuration.figures.get("reserved") or configuration.figures.get("memory")
    cause = "" if record.cause is None else f"{record.cause.kind}: {record.cause.message}"
    if record.status == "ok" and record.kind != "memory":
        cause = why_not_timed(record) or ""
    if len(cause) > MAX_CAUSE_CHARACTERS:
        cause = cause[: MAX_CAUSE_CHARACTERS - 3] + "..."
    values: Sequence[tuple[str, Any]] = (
        (record.kind, record.kind),
        (name, name),
        (str(record.replicate + 1), record.replicate),
        (str(record.attempt + 1), record.attempt),
        (record.status, record.status),
        ("" if time_s is None else significant(time_s.value, digits=4), "" if time_s is None else time_s.value),
        ("" if peak is None else format_bytes(peak.value), "" if peak is None else peak.value),
        (significant(record.elapsed_s), record.elapsed_s),
        (record.started_at.replace("T", " ")[:19], record.started_at),
        (", ".join(sorted({warning.code for warning in record.warnings})), len(record.warnings)),
        (cause, cause),
    )
    return TrialRow(
        cells=tuple(text for text, _ in values), keys=tuple(key for _, key in values), is_bad=record.status != "ok"
    )
