"""The summary table of a sweep for the terminal: what varied, what came out, and what failed, fastest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vnbench.analysis.comparison.side_by_side import SideBySide, side_by_side
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.analysis.trials.summary import TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.output.tables.epoch import epoch_table
from vnbench.output.words.lever_columns import add_lever_columns, lever_cells, shared_levers
from vnbench.output.words.levers import varying
from vnbench.output.words.noise import coverage_line, drift_line
from vnbench.output.words.numbers import MISSING, format_estimate, supported, times
from vnbench.output.words.provenance import CPU_LABEL, count, provenance
from vnbench.output.words.row_notes import row_notes, shared_codes, short, status_cell, subject
from vnbench.records.record import TrialRecord
from vnbench.records.spec import TrialSpec
from vnbench.units import BYTES_PER_UNIT, format_bytes, mpx

UNLIMITED = 10_000
"""Columns of a console on which every table fits."""

CENTRE = "centre"
"""Stands where a row would be compared with itself."""


def summary_table(
    records: Sequence[TrialRecord], *, price_per_hour: float | None = None, centre: TrialSpec | None = None
) -> RenderableType:
    """Return the table of all training trials with its notes, for a console of 100 columns or more.

    One row per configuration, its processes pooled, sorted by valid pixels per second, the fastest first; those without
    a valid timing stand below, in the order of the records, with their reasons under the table. Levers with one value
    in all rows stand above the table. Each row is compared with the ``centre`` of the sweep, image by image; without
    one the records tell it. ``price_per_hour``, in any currency, adds what an epoch costs.

    Raises:
        InputError: the records come from more than one device.
    """
    if not records:
        return Text("No trials in these records.")
    origin = provenance(records)
    latest = latest_attempts(records)
    noise = measure_noise(latest)
    sides = side_by_side(latest, noise=noise, centre=centre)
    timed, untimed = split_by_timing(summarize(latest, noise=noise))
    rows = (*timed, *untimed)
    parts: list[RenderableType] = []
    if rows:
        levers = varying(row.spec for row in rows)
        columns = _columns(rows, sides)
        table = _FittingTable(rows=rows, num_timed=len(timed), levers=levers, columns=columns)
        parts += [Text(shared_levers([row.spec for row in rows])), table]
        if price_per_hour is not None and timed:
            parts += [Text(), epoch_table(timed, names=levers, price_per_hour=price_per_hour)]
    else:
        parts.append(Text("No training trial in these records."))
    notes = [*row_notes(rows), *_failed_families(latest, rows)]
    notes += _what_figures_are(timed, noise, sides)
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
class _Column:
    """One column of figures."""

    header: str
    """Its heading."""
    cell: Callable[[TrialSummary], str]
    """Returns what stands in a row."""
    first_to_go: int = 0
    """Place in the order in which columns are left out where the console is narrow, from 1; 0 for never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _FittingTable:
    """The table, without its least important columns where the console has no room for all of them."""

    rows: Sequence[TrialSummary]
    """All rows in their order."""
    num_timed: int
    """Those above the line."""
    levers: Sequence[str]
    """Levers that have a column."""
    columns: Sequence[_Column]
    """Columns of figures."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        going = sorted(column.first_to_go for column in self.columns if column.first_to_go)
        # Two spaces between columns where there is room for them.
        for gap, last in ((2, 0), *((1, number) for number in (0, *going))):
            table = self._table([one for one in self.columns if not 0 < one.first_to_go <= last], gap=gap)
            needed = Measurement.get(console, options.update(max_width=UNLIMITED), table).maximum
            if needed <= options.max_width:
                break
        # Words fold where even the narrowest is too wide.
        yield table

    def _table(self, columns: Sequence[_Column], *, gap: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
        add_lever_columns(table, self.levers)
        for column in columns:
            table.add_column(column.header, justify="right", no_wrap=True)
        table.add_column("sta-\ntus", no_wrap=True)
        shared = shared_codes(self.rows)
        for index, row in enumerate(self.rows, start=1):
            cells = (*lever_cells(self.levers, row.spec), *(column.cell(row) for column in columns))
            table.add_row(
                *(Text(cell, overflow="fold") for cell in (*cells, status_cell(row, shared=shared))),
                end_section=index == self.num_timed < len(self.rows),
            )
        return table


def _columns(rows: Sequence[TrialSummary], sides: SideBySide) -> tuple[_Column, ...]:
    """Return the columns of figures that some rows need."""
    longest_s = max((row.step_time_s or 0.0 for row in rows), default=0.0)
    # Milliseconds as long as the longest step needs no more than four digits.
    unit, per_second = ("ms", 1e3) if longest_s < 10 else ("s", 1.0)
    largest = max((row.worst_case_peak_bytes or 0 for row in rows), default=0)
    memory_unit = "GiB" if largest >= BYTES_PER_UNIT["GiB"] else "MiB"

    def speed(row: TrialSummary) -> str:
        valid_mpx = None if row.valid_px_per_s is None else mpx(row.valid_px_per_s)
        return format_estimate(valid_mpx, times(valid_mpx, row.valid_relative_half_width))

    def step_time(row: TrialSummary) -> str:
        half_width = times(row.step_time_half_width_s, per_second)
        return supported(times(row.step_time_s, per_second), half_width)

    has_replicates = any(row.num_processes > 1 for row in rows)
    has_ratios = sum(row.num_processes > 0 for row in rows) > 1
    return (
        *((_Column(header="n", cell=lambda row: str(row.num_processes or MISSING), first_to_go=3),) * has_replicates),
        _Column(header="valid\nMpx/s", cell=speed),
        *((_Column(header="times\ncentre", cell=lambda row: _ratio(row, sides)),) * has_ratios),
        _Column(header=f"step\n{unit}", cell=step_time, first_to_go=1),
        _Column(header="pad\n%", cell=lambda row: _per_cent(row.padding_ratio, decimals=1)),
        _Column(header="wait\n%", cell=lambda row: _per_cent(row.data_wait_ratio, decimals=0), first_to_go=2),
        _Column(header=f"peak\n{memory_unit}", cell=lambda row: _peak(row, unit=memory_unit)),
    )


def _per_cent(ratio: float | None, *, decimals: int) -> str:
    return MISSING if ratio is None else f"{100 * ratio:.{decimals}f}"


def _ratio(row: TrialSummary, sides: SideBySide) -> str:
    """Return a row's valid pixels per second over the centre's, with its interval."""
    if row.spec == sides.centre:
        return CENTRE
    ratio = sides.to_centre(row.spec)
    return MISSING if ratio is None else format_estimate(ratio.value, times(ratio.value, ratio.half_width))


def _peak(row: TrialSummary, *, unit: str) -> str:
    if row.worst_case_peak_bytes is not None:
        peak = row.worst_case_peak_bytes / BYTES_PER_UNIT[unit]
        return f"{peak:.2f}" if peak < 10 else f"{peak:.1f}"
    if row.worst_case_status in (None, "ok"):
        return MISSING
    return "skip" if row.worst_case_status == "skipped" else str(row.worst_case_status)


def _what_figures_are(timed: Sequence[TrialSummary], noise: Noise, sides: SideBySide) -> list[str]:
    """Return what the figures and their intervals are, and how far the machine drifted."""
    if not timed:
        return []
    lines = [f"Intervals: 95 %, {coverage_line(noise, kind='training')}."]
    if len(timed) > 1:
        others = [row for row in timed if row.spec != sides.centre and sides.to_centre(row.spec) is None]
        unlike = f" ({MISSING}: trained on others)" if others else ""
        lines.append(f"times centre: valid Mpx/s over those of the row marked {CENTRE}, on the same images{unlike}.")
    capacity = max((row.capacity_bytes for row in timed if row.capacity_bytes), default=None)
    memory = f" (there are {format_bytes(capacity)})" if capacity else ""
    lines.append(f"pad: padding of an epoch of all training images. peak: memory of one worst-case step{memory}.")
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
