"""The summary table of a sweep for the terminal: what varied, what came out, and what failed, fastest first."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.summary import TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.output.levers import LEVERS, levers_of, phrases, varying
from vnbench.output.provenance import CPU_LABEL, count, provenance
from vnbench.record import TrialRecord
from vnbench.units import BYTES_PER_UNIT, format_bytes, mpx

MISSING = "-"
"""Stands for a figure that was not measured."""


def summary_table(records: Sequence[TrialRecord]) -> RenderableType:
    """Return the table of all training trials with its notes, for a console of 100 columns or more.

    Trials are sorted by valid pixels per second, the fastest first; those without a valid timing stand below, in the
    order of the records, with their reasons under the table. Levers with one value in all rows stand above the table.

    Raises:
        InputError: the records come from more than one device.
    """
    if not records:
        return Text("No trials in these records.")
    origin = provenance(records)
    latest = latest_attempts(records)
    timed, untimed = split_by_timing(summarize(latest))
    rows = (*timed, *untimed)
    num_memory = len(latest) - len(rows)
    parts: list[RenderableType] = []
    if rows:
        parts += [Text(_shared_levers(rows)), _table(timed, untimed)]
    else:
        parts.append(Text("No training trial in these records."))
    capacity = max((row.capacity_bytes for row in rows if row.capacity_bytes), default=None)
    notes = [*_reasons(untimed), *_warnings(rows), *_failed_families(latest, rows)]
    if timed:
        notes.append(
            "Intervals are 95 % and cover the steps of one process only, not differences between processes; padding is "
            "that of the full plan; peak is the memory of one worst-case step"
            + (f" (capacity {format_bytes(capacity)})." if capacity else ".")
        )
    if any(row.worst_case_status is None for row in rows):
        notes.append(f"{MISSING} under peak: no worst-case trial covers this configuration.")
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}.")
    notes.append(origin.line(f"{count(len(rows), 'training trial')}, {count(num_memory, 'worst-case memory trial')}"))
    return Group(*parts, Text(), *map(Text, notes))


def split_by_timing(summaries: Sequence[TrialSummary]) -> tuple[tuple[TrialSummary, ...], tuple[TrialSummary, ...]]:
    """Return the trials with a valid throughput, fastest first, and those without, in the order given."""
    timed = [row for row in summaries if row.valid_px_per_s is not None]
    timed.sort(key=lambda row: row.valid_px_per_s or 0.0, reverse=True)
    return tuple(timed), tuple(row for row in summaries if row.valid_px_per_s is None)


def format_estimate(value: float | None, half_width: float | None) -> str:
    """Return ``value ± half_width`` with no more digits than the half-width supports.

    The half-width keeps one significant digit, two if the first is a 1, and the value ends at the same place. Without
    a half-width the value keeps two significant digits; without a value the answer is MISSING.
    """
    if value is None:
        return MISSING
    if half_width is None:
        return _fixed(value, decimals=1 - _exponent(value))
    if half_width == 0:
        return f"{_fixed(value, decimals=2 - _exponent(value))} ± 0"
    leading = half_width / 10.0 ** _exponent(half_width)
    decimals = (1 if leading < 1.95 else 0) - _exponent(half_width)
    return f"{_fixed(value, decimals=decimals)} ± {_fixed(half_width, decimals=decimals)}"


def _exponent(value: float) -> int:
    """Return the power of ten of the first significant digit."""
    return 0 if value == 0 else math.floor(math.log10(abs(value)))


def _fixed(value: float, *, decimals: int) -> str:
    return f"{round(value, decimals):.{max(decimals, 0)}f}"


def _shared_levers(rows: Sequence[TrialSummary]) -> str:
    """Return what all rows have in common as one sentence."""
    differing = varying(row.spec for row in rows)
    shared = phrases(levers_of(rows[0].spec), names=[name for name in LEVERS if name not in differing])
    return f"All trials: {shared}."


def _table(timed: Sequence[TrialSummary], untimed: Sequence[TrialSummary]) -> Table:
    rows = (*timed, *untimed)
    names = varying(row.spec for row in rows)
    has_replicates = any(row.replicate for row in rows)
    # Milliseconds as long as the longest step needs no more than four digits.
    unit, per_second = ("ms", 1e3) if max((row.step_time_s or 0.0 for row in timed), default=0.0) < 10 else ("s", 1.0)
    # Two spaces between columns where a hundred columns of text allow it.
    padding = (0, 1, 0, 0) if len(names) + has_replicates <= 5 else (0, 0)
    largest = max((row.worst_case_peak_bytes or 0 for row in rows), default=0)
    memory_unit = "GiB" if largest >= BYTES_PER_UNIT["GiB"] else "MiB"
    table = Table(box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False)
    for name in names:
        is_number = name in ("batch_size", "micro_batch_size", "num_workers")
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(LEVERS[name].header, justify=justify, no_wrap=is_number, overflow="fold")
    if has_replicates:
        table.add_column("repli-\ncate", justify="right", no_wrap=True)
    for header in ("valid\nMpx/s", f"step time\n{unit}", "pad-\nding %", "data\nwait %", f"peak\n{memory_unit}"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for index, row in enumerate(rows, start=1):
        levers = [_lever_cell(name, row) for name in names]
        replicate = [str(row.replicate)] if has_replicates else []
        cells = (*levers, *replicate, *_figures(row, per_second=per_second, memory_unit=memory_unit), _status(row))
        table.add_row(
            *(Text(cell, overflow="fold") for cell in cells), end_section=index == len(timed) and bool(untimed)
        )
    return table


def _lever_cell(name: str, row: TrialSummary) -> str:
    if name == "micro_batch_size":
        return str(row.spec.micro_batch_size)
    value = LEVERS[name].value(row.spec)
    return MISSING if value is None else str(value)


def _figures(row: TrialSummary, *, per_second: float, memory_unit: str) -> tuple[str, ...]:
    valid_mpx = None if row.valid_px_per_s is None else mpx(row.valid_px_per_s)
    return (
        format_estimate(valid_mpx, _times(valid_mpx, row.valid_relative_half_width)),
        format_estimate(_times(row.step_time_s, per_second), _times(row.step_time_half_width_s, per_second)),
        MISSING if row.padding_ratio is None else f"{100 * row.padding_ratio:.1f}",
        MISSING if row.data_wait_ratio is None else f"{100 * row.data_wait_ratio:.0f}",
        _peak(row, unit=memory_unit),
    )


def _times(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor


def _peak(row: TrialSummary, *, unit: str) -> str:
    if row.worst_case_peak_bytes is not None:
        peak = row.worst_case_peak_bytes / BYTES_PER_UNIT[unit]
        return f"{peak:.2f}" if peak < 10 else f"{peak:.1f}"
    if row.worst_case_status in (None, "ok"):
        return MISSING
    return "skip" if row.worst_case_status == "skipped" else str(row.worst_case_status)


def _status(row: TrialSummary) -> str:
    return f"{row.status} !" if row.warnings or (row.status == "ok" and row.valid_px_per_s is None) else row.status


def _subject(row: TrialSummary, rows: Sequence[TrialSummary]) -> str:
    """Return what tells this row from the others."""
    names = {"batch_size", *varying(other.spec for other in rows)}
    levers = levers_of(row.spec)
    if levers["micro_batch_size"] is None:
        names.discard("micro_batch_size")
    replicate = f", replicate {row.replicate}" if any(other.replicate for other in rows) else ""
    return phrases(levers, names=names) + replicate


def _reasons(untimed: Sequence[TrialSummary]) -> list[str]:
    return [f"{row.status}: {_subject(row, untimed)}: {_short(row.cause)}" for row in untimed]


def _warnings(rows: Sequence[TrialSummary]) -> list[str]:
    return [
        f"! {_subject(row, rows)}: {_short(warning.message)} ({warning.code})"
        for row in rows
        for warning in row.warnings
    ]


def _failed_families(latest: Sequence[TrialRecord], rows: Sequence[TrialSummary]) -> list[str]:
    """Return a line per family whose worst case did not end ok although a trial that needs it has figures."""
    needed = {row.spec.family: row for row in rows if row.valid_px_per_s is not None}
    return [
        f"worst case {memory.status}: {_subject(needed[memory.family], rows)}: {_short(memory.cause)}"
        for memory in summarize_memory(latest)
        if memory.status != "ok" and memory.family in needed
    ]


def _short(cause: str | None) -> str:
    """Return a cause in at most two lines of a terminal; the record holds all of it."""
    return textwrap.shorten(cause or "no cause recorded", width=180, placeholder=" ...")
