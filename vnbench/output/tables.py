"""The summary table of a sweep for the terminal: what varied, what came out, and what failed, fastest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.noise import measure_noise
from vnbench.analysis.summary import TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.output.epoch_table import epoch_table
from vnbench.output.lever_columns import add_lever_columns, lever_cells, shared_levers
from vnbench.output.levers import varying
from vnbench.output.noise_lines import coverage_line, drift_line
from vnbench.output.numbers import MISSING, format_estimate, times
from vnbench.output.provenance import CPU_LABEL, count, provenance
from vnbench.output.row_notes import row_notes, short, status_cell, subject
from vnbench.record import TrialRecord
from vnbench.units import BYTES_PER_UNIT, format_bytes, mpx


def summary_table(records: Sequence[TrialRecord], *, price_per_hour: float | None = None) -> RenderableType:
    """Return the table of all training trials with its notes, for a console of 100 columns or more.

    One row per configuration, its processes pooled, sorted by valid pixels per second, the fastest first; those without
    a valid timing stand below, in the order of the records, with their reasons under the table. Levers with one value
    in all rows stand above the table. ``price_per_hour``, in any currency, adds what an epoch costs.

    Raises:
        InputError: the records come from more than one device.
    """
    if not records:
        return Text("No trials in these records.")
    origin = provenance(records)
    latest = latest_attempts(records)
    timed, untimed = split_by_timing(summarize(latest))
    rows = (*timed, *untimed)
    parts: list[RenderableType] = []
    if rows:
        columns = _Columns.of(rows)
        parts += [Text(shared_levers([row.spec for row in rows])), _table(timed, untimed, columns)]
        if price_per_hour is not None and timed:
            parts += [Text(), epoch_table(timed, names=columns.levers, price_per_hour=price_per_hour)]
    else:
        parts.append(Text("No training trial in these records."))
    notes = [*row_notes(rows), *_failed_families(latest, rows)]
    notes += _what_figures_are(latest, timed)
    if any(row.worst_case_status is None for row in rows):
        notes.append(f"{MISSING} under peak: no worst-case trial covers this configuration.")
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}.")
    notes.append(origin.line(_trials(latest, num_rows=len(rows))))
    return Group(*parts, Text(), *map(Text, notes))


def split_by_timing(summaries: Sequence[TrialSummary]) -> tuple[tuple[TrialSummary, ...], tuple[TrialSummary, ...]]:
    """Return the trials with a valid throughput, fastest first, and those without, in the order given."""
    timed = [row for row in summaries if row.valid_px_per_s is not None]
    timed.sort(key=lambda row: row.valid_px_per_s or 0.0, reverse=True)
    return tuple(timed), tuple(row for row in summaries if row.valid_px_per_s is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """What the columns of a table are."""

    levers: tuple[str, ...]
    has_replicates: bool
    per_second: float
    """Factor from seconds to the unit of step times."""
    memory_unit: str

    @classmethod
    def of(cls, rows: Sequence[TrialSummary]) -> _Columns:
        longest_s = max((row.step_time_s or 0.0 for row in rows), default=0.0)
        largest = max((row.worst_case_peak_bytes or 0 for row in rows), default=0)
        return cls(
            levers=varying(row.spec for row in rows),
            has_replicates=any(row.num_processes > 1 for row in rows),
            # Milliseconds as long as the longest step needs no more than four digits.
            per_second=1e3 if longest_s < 10 else 1.0,
            memory_unit="GiB" if largest >= BYTES_PER_UNIT["GiB"] else "MiB",
        )

    def headers(self) -> tuple[str, ...]:
        unit = "ms" if self.per_second > 1 else "s"
        return (
            *(("n",) if self.has_replicates else ()),
            "valid\nMpx/s",
            f"step time\n{unit}",
            "pad-\nding %",
            "data\nwait %",
            f"peak\n{self.memory_unit}",
        )

    def figures(self, row: TrialSummary) -> tuple[str, ...]:
        valid_mpx = None if row.valid_px_per_s is None else mpx(row.valid_px_per_s)
        step_time = times(row.step_time_s, self.per_second)
        step_half_width = times(row.step_time_half_width_s, self.per_second)
        return (
            *((str(row.num_processes or MISSING),) if self.has_replicates else ()),
            format_estimate(valid_mpx, times(valid_mpx, row.valid_relative_half_width)),
            format_estimate(step_time, step_half_width),
            MISSING if row.padding_ratio is None else f"{100 * row.padding_ratio:.1f}",
            MISSING if row.data_wait_ratio is None else f"{100 * row.data_wait_ratio:.0f}",
            _peak(row, unit=self.memory_unit),
        )


def _table(timed: Sequence[TrialSummary], untimed: Sequence[TrialSummary], columns: _Columns) -> Table:
    # Two spaces between columns where a hundred columns of text allow it.
    num_columns = len(columns.levers) + len(columns.headers())
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0) if num_columns <= 10 else (0, 0), pad_edge=False, show_edge=False
    )
    add_lever_columns(table, columns.levers)
    for header in columns.headers():
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for index, row in enumerate((*timed, *untimed), start=1):
        levers = lever_cells(columns.levers, row.spec)
        table.add_row(
            *(Text(cell, overflow="fold") for cell in (*levers, *columns.figures(row), status_cell(row))),
            end_section=index == len(timed) and bool(untimed),
        )
    return table


def _peak(row: TrialSummary, *, unit: str) -> str:
    if row.worst_case_peak_bytes is not None:
        peak = row.worst_case_peak_bytes / BYTES_PER_UNIT[unit]
        return f"{peak:.2f}" if peak < 10 else f"{peak:.1f}"
    if row.worst_case_status in (None, "ok"):
        return MISSING
    return "skip" if row.worst_case_status == "skipped" else str(row.worst_case_status)


def _what_figures_are(latest: Sequence[TrialRecord], timed: Sequence[TrialSummary]) -> list[str]:
    """Return what the intervals cover, and how far the machine drifted."""
    if not timed:
        return []
    noise = measure_noise(latest)
    capacity = max((row.capacity_bytes for row in timed if row.capacity_bytes), default=None)
    lines = [
        f"Intervals: 95 %, {coverage_line(noise, kind='training')}; padding is that of the full plan; peak is the "
        f"memory of one worst-case step{f' (capacity {format_bytes(capacity)})' if capacity else ''}."
    ]
    if noise.drift is not None:
        lines.append(drift_line(noise.drift))
    return lines


def _failed_families(latest: Sequence[TrialRecord], rows: Sequence[TrialSummary]) -> list[str]:
    """Return a line per family whose worst case did not end ok although a trial that needs it has figures."""
    needed = {row.spec.family: row for row in rows if row.valid_px_per_s is not None}
    return [
        f"worst case {memory.status}: {subject(needed[memory.family], rows)}: {short(memory.cause)}"
        for memory in summarize_memory(latest)
        if memory.status != "ok" and memory.family in needed
    ]


def _trials(latest: Sequence[TrialRecord], *, num_rows: int) -> str:
    """Return how many trials a table rests on, as ``9 training trials of 7 configurations``."""
    kinds = [record.kind for record in latest]
    num_training = kinds.count("training")
    of = f" of {count(num_rows, 'configuration')}" if num_training != num_rows else ""
    return f"{count(num_training, 'training trial')}{of}, {count(kinds.count('memory'), 'worst-case memory trial')}"
