"""The table of loader trials for the terminal: a line per stage of every configuration, then what feeds computing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.models.knee import Appetite, Knee, appetites, families, find_knee
from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.loading import LoaderSummary, StageSummary, summarize_loading
from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.overlap import Overlap, overlaps
from vnbench.analysis.trials.summary import latest_attempts, summarize
from vnbench.output.words.knee import knee_line
from vnbench.output.words.lever_columns import add_lever_columns, lever_cells
from vnbench.output.words.levers import describe, varying
from vnbench.output.words.noise import coverage_line
from vnbench.output.words.numbers import MISSING, format_estimate, significant, times
from vnbench.output.words.provenance import CPU_LABEL, count, provenance
from vnbench.output.words.row_notes import row_notes, shared_codes, status_cell
from vnbench.records.record import TrialRecord, WarningCode
from vnbench.records.spec import LEVERS, LOADING_LEVERS
from vnbench.units import BYTES_PER_UNIT, format_percent, gib, mpx

LOADER_LEVERS = ("task", "batch_size", "micro_batch_size", *LOADING_LEVERS, "corpus_id")
"""Levers that a loader trial has."""

WORTH_TELLING = 1024
"""Bytes per example from worker processes below which they are the sizes alone, and no pixels."""

HEADERS = (
    "stage",
    "examples/s",
    "valid\nMpx/s",
    "p50\nms",
    "p90\nms",
    "p99\nms",
    "IPC\nMiB",
    "start\ns",
    "host\nGiB",
)


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
            f"Intervals: 95 %, {coverage_line(measure_noise(latest), kind='loader')}; each stage holds those before "
            "it; cold: the files came from the disk; p50 to p99: what a batch was waited for; IPC: bytes from worker "
            "processes per example; start: until the first batch; host: memory of the process and its workers."
        ]
        notes += list(_knee_lines(rows, latest, appetite))
    notes += [_overlap_line(one) for one in _overlaps(latest, rows)]
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}; loader and network share its cores.")
    notes.append(origin.line(count(sum(record.kind == "loader" for record in latest), "loader trial")))
    return Group(*parts, Text(), *map(Text, notes))


def knees(rows: Sequence[LoaderSummary], latest: Sequence[TrialRecord], appetite: float | None) -> Iterator[Knee]:
    """Yield what each family of loaders does for an appetite: the one given, or the hungriest of the compute trials."""
    for family in families(rows):
        if appetite is not None:
            wanted: Appetite | None = Appetite(examples_per_s=appetite, relative_half_width=None, spec=None)
        else:
            wanted = next(iter(appetites(summarize_compute(latest), family)), None)
        if wanted is not None:
            yield find_knee(family, wanted)


def stage_name(stage: StageSummary) -> str:
    """Return a stage as it is named for people."""
    return f"{stage.name}{', cold' if stage.is_cold else ''}"


def _order(row: LoaderSummary) -> tuple[str | int, ...]:
    """Return what puts loaders that differ in their number of workers alone below each other."""
    spec = row.spec
    words = (spec.sampler or "", spec.cache, spec.worker_kind, spec.pin_memory, spec.persistent_workers)
    return (spec.batch_size, spec.micro_batch_size, *words, spec.prefetch_factor, spec.num_workers or 0)


def _shared(rows: Sequence[LoaderSummary], differing: Sequence[str]) -> str:
    specs = [row.spec for row in rows]
    names = [
        name
        for name in LOADER_LEVERS
        if name not in differing and (LEVERS[name].quiet is None or LEVERS[name].value(specs[0]) != LEVERS[name].quiet)
    ]
    return f"All loader trials: {describe(specs[0], names=names)}."


def _table(rows: Sequence[LoaderSummary], names: Sequence[str], *, shared: frozenset[WarningCode]) -> Table:
    lines = [(row, stage, _cells(stage)) for row in rows for stage in row.stages]
    # A column of nothing but missing figures is what was not asked for.
    shown = [index for index in range(len(HEADERS)) if any(cells[index] != MISSING for _, _, cells in lines)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    add_lever_columns(table, names)
    for index in shown:
        table.add_column(HEADERS[index], justify="left" if index == 0 else "right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row, stage, cells in lines:
        is_first, is_last = stage is row.stages[0], stage is row.stages[-1]
        levers = lever_cells(names, row.spec) if is_first else [""] * len(names)
        table.add_row(
            *(Text(cell, overflow="fold") for cell in levers),
            *(Text(cells[index]) for index in shown),
            Text(status_cell(row, shared=shared) if is_first else ""),
            end_section=is_last and row is not rows[-1],
        )
    return table


def _cells(stage: StageSummary) -> tuple[str, ...]:
    relative = stage.time_per_example.relative_half_width
    # A plan is one wait for all examples, which is no wait for a batch.
    waits = (None, None, None) if stage.name == "plan" else stage.waits_s
    payload = stage.payload_bytes_per_example
    valid = mpx(stage.valid_px_per_s)
    return (
        stage_name(stage),
        format_estimate(stage.examples_per_s, times(stage.examples_per_s, relative)),
        significant(valid, digits=2),
        *(significant(times(wait, 1e3), digits=2) for wait in waits),
        significant(payload / BYTES_PER_UNIT["MiB"]) if payload >= WORTH_TELLING else MISSING,
        significant(stage.start_up_s, digits=2),
        MISSING if stage.host_bytes is None else significant(gib(stage.host_bytes), digits=2),
    )


def _knee_lines(rows: Sequence[LoaderSummary], latest: Sequence[TrialRecord], appetite: float | None) -> Iterator[str]:
    found = list(knees(rows, latest, appetite))
    for knee in found:
        yield knee_line(knee, all_rows=rows)
    if not found:
        yield (
            "What feeds computing is not told without an appetite: measure it with --kind compute,loader, or give "
            "--appetite in examples per second."
        )


def _overlaps(latest: Sequence[TrialRecord], rows: Sequence[LoaderSummary]) -> tuple[Overlap, ...]:
    return overlaps(summarize(latest), loading=rows, computing=summarize_compute(latest))


def _overlap_line(one: Overlap) -> str:
    names = ("batch_size", "micro_batch_size", "precision", "norm_precision", "checkpointing", "sampler", "num_workers")
    wait = one.training.data_wait_ratio
    return (
        f"overlap: {describe(one.training.spec, names=names)}: loading alone {significant(one.loading_s)} s a step, "
        f"computing alone {significant(one.computing_s)} s: expected {significant(one.expected_step_s)} s with "
        f"{format_percent(one.expected_wait_ratio)} waiting; measured {significant(one.training.step_time_s)} s with "
        f"{MISSING if wait is None else format_percent(wait)}"
    )
