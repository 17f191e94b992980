"""The table of loader trials for the terminal: a line per stage of every configuration, then what feeds computing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.models.overlap import Overlap, overlaps
from vnbench.analysis.models.saturation import Appetite, Saturation, appetites, families, find_saturation
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.loading import PERCENTILES, LoaderSummary, StageSummary, summarize_loading
from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import latest_attempts, summarize
from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.levers import describe, varying
from vnbench.output.words.noise import coverage_line
from vnbench.output.words.numbers import MISSING, format_estimate, roughly, significant, times
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.output.words.row_notes import row_notes, shared_codes, status_cell
from vnbench.output.words.saturation import saturation_line
from vnbench.records.record import TrialRecord, WarningCode, of_kind
from vnbench.records.spec.axes import LOADING_LEVERS
from vnbench.records.spec.trial_spec import LEVERS, LoaderSpec
from vnbench.units import BYTES_PER_UNIT, count, format_percent, gib, mpx

LOADER_LEVERS = ("task", "batch_size", "micro_batch_size", *LOADING_LEVERS, "corpus_id")
"""Levers that a loader trial has."""

WORTH_TELLING = 1024
"""Bytes per example from worker processes below which they are the sizes alone, and no pixels."""


class Line(NamedTuple):
    """One line of the table."""

    row: LoaderSummary
    """The configuration."""
    stage: StageSummary
    """A stage of it."""

    @property
    def is_first(self) -> bool:
        """Whether it is the first of its configuration."""
        return self.stage is self.row.stages[0]


def loader_answer(records: Sequence[TrialRecord], *, appetite: float | None = None) -> str:
    """Return how many workers keep up, in one sentence to be read first; empty where nothing tells it."""
    latest = latest_attempts(records)
    rows = summarize_loading(latest)
    found = next(iter(saturations(rows, latest, appetite)), None)
    return "" if found is None else f"Answer: {saturation_line(found, all_rows=rows).removeprefix('loader: ')}."


def loader_table(records: Sequence[TrialRecord], *, appetite: float | None = None) -> RenderableType | None:
    """Return the table of all loader trials with its notes; None without any.

    ``appetite`` is in examples per second; without it that of the compute trials among the records counts.

    Raises:
        InputError: the records come from more than one device.
    """
    latest = latest_attempts(records)
    rows = summarize_loading(latest)
    if not rows:
        return None
    origin = provenance(records)
    timed = sorted((row for row in rows if row.stages), key=_order)
    names = [name for name in varying(row.spec for row in rows) if name in LOADER_LEVERS]
    parts: list[RenderableType] = [Text(_shared(rows, names))]
    parts += [_table(timed, names, shared=shared_codes(rows))] if timed else []
    notes = row_notes(rows)
    if timed:
        notes += [
            f"Intervals: 95 %, {coverage_line(measure_noise(latest), kind='loader')}. Each stage includes those before "
            "it. cold: files came from the disk. p50 to p99: waiting time per batch. IPC: bytes per example from "
            "worker processes. start: time to the first batch. host: memory of the process and its workers."
        ]
        notes += list(_saturation_lines(rows, latest, appetite))
    notes += [_overlap_line(one) for one in _overlaps(latest, rows)]
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}; loader and network share its cores.")
    notes.append(origin.line(count(len(of_kind(latest, LoaderSpec)), "loader trial")))
    return Group(*parts, Text(), *map(Text, notes))


def saturations(
    rows: Sequence[LoaderSummary], latest: Sequence[TrialRecord], appetite: float | None
) -> Iterator[Saturation]:
    """Yield what each family of loaders does for an appetite: the one given, or the hungriest of the compute trials."""
    for family in families(rows):
        if appetite is not None:
            wanted: Appetite | None = Appetite(examples_per_s=Estimate(value=appetite), spec=None)
        else:
            wanted = next(iter(appetites(summarize_compute(latest), family)), None)
        if wanted is not None:
            yield find_saturation(family, wanted)


def stage_name(stage: StageSummary) -> str:
    """Return a stage as it is named for people."""
    return f"{stage.name}{', cold' if stage.is_cold else ''}"


def _order(row: LoaderSummary) -> tuple[str | int, ...]:
    """Return what puts loaders that differ in their number of workers alone below each other."""
    spec = row.spec
    words = (spec.sampler, spec.cache, spec.worker_kind, spec.pin_memory, spec.persistent_workers)
    return (spec.batch_size, spec.micro_batch_size, *words, spec.prefetch_factor, spec.num_workers)


def _shared(rows: Sequence[LoaderSummary], differing: Sequence[str]) -> str:
    specs = [row.spec for row in rows]
    names = [
        name
        for name in LOADER_LEVERS
        if name not in differing and (LEVERS[name].quiet is None or LEVERS[name].value(specs[0]) != LEVERS[name].quiet)
    ]
    return f"All loader trials: {describe(specs[0], names=names)}."


def _table(rows: Sequence[LoaderSummary], names: Sequence[str], *, shared: frozenset[WarningCode]) -> RenderableType:
    lines = [Line(row, stage) for row in rows for stage in row.stages]
    status: Column[Line] = Column(
        "status", lambda line: status_cell(line.row, shared=shared), align="left", gives_way=2
    )
    levers: list[Column[Line]] = lever_columns(names, lambda line: line.row.spec)
    # A column of which nothing is known is what was not asked for.
    view = View(lines, [*map(_once, levers), *STAGE, _once(status)]).told()
    ends = [number - 1 for number, line in enumerate(lines) if line.is_first]
    return FittedTable(view=view, lines_after=ends, elsewhere="")


def _once(column: Column[Line]) -> Column[Line]:
    """Return a column that tells of a configuration with its first stage alone."""
    return replace(column, value=lambda line: column.cell(line) if line.is_first else "", text=str)


def _wait(place: int) -> Column[Line]:
    # A plan is one wait for all examples, which is no wait for a batch.
    def seconds(line: Line) -> float | None:
        return None if line.stage.name == "plan" else line.stage.waits_s[place]

    return Column(
        f"p{PERCENTILES[place]}", lambda line: times(seconds(line), 1e3), unit="ms", text=roughly, gives_way=3
    )


def _supply(line: Line) -> str:
    supply = line.stage.examples_per_s
    return format_estimate(supply, times(supply, line.stage.time_per_example.relative_half_width))


def _payload(line: Line) -> str | None:
    payload = line.stage.payload_bytes_per_example
    return significant(payload / BYTES_PER_UNIT["MiB"]) if payload >= WORTH_TELLING else None


def _host(line: Line) -> float | None:
    return None if line.stage.host_bytes is None else gib(line.stage.host_bytes)


STAGE: tuple[Column[Line], ...] = (
    Column("stage", lambda line: stage_name(line.stage), align="left"),
    Column("examples/s", _supply),
    Column("valid", lambda line: mpx(line.stage.valid_px_per_s), unit="Mpx/s", text=roughly, gives_way=1),
    *map(_wait, range(len(PERCENTILES))),
    Column("IPC", _payload, unit="MiB", gives_way=4),
    Column("start", lambda line: line.stage.start_up_s, unit="s", text=roughly, gives_way=5),
    Column("host", _host, unit="GiB", text=roughly, gives_way=6),
)
"""What is told of a stage."""


def _saturation_lines(
    rows: Sequence[LoaderSummary], latest: Sequence[TrialRecord], appetite: float | None
) -> Iterator[str]:
    found = list(saturations(rows, latest, appetite))
    for saturation in found:
        yield saturation_line(saturation, all_rows=rows)
    if not found:
        yield (
            "Whether the loader keeps up is unknown: measure computing too (--kind compute,loader), or give --appetite "
            "in images per second."
        )


def _overlaps(latest: Sequence[TrialRecord], rows: Sequence[LoaderSummary]) -> tuple[Overlap, ...]:
    return overlaps(summarize(latest), loading=rows, computing=summarize_compute(latest))


def _overlap_line(one: Overlap) -> str:
    names = ("batch_size", "micro_batch_size", "precision", "norm_precision", "checkpointing", "sampler", "num_workers")
    wait = one.training.data_wait_ratio
    step_s = one.training.step_time.value if one.training.step_time else None
    return (
        f"overlap: {describe(one.training.spec, names=names)}: "
        f"loading alone {significant(one.step.loading_s)} s a step, "
        f"computing alone {significant(one.step.computing_s)} s: expected {significant(one.step.total_s)} s with "
        f"{format_percent(one.expected_wait_ratio)} waiting; measured {significant(step_s)} s with "
        f"{MISSING if wait is None else format_percent(wait)}"
    )
