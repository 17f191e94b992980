"""The summary table of a sweep for the terminal: what varied, what came out, and what failed, fastest first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.comparison.side_by_side import SideBySide, side_by_side
from vnbench.analysis.trials.noise import Noise, measure_noise
from vnbench.analysis.trials.summary import TrialSummary, latest_attempts, summarize, summarize_memory
from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.epoch import epoch_table
from vnbench.output.tables.lever_columns import lever_columns, shared_levers
from vnbench.output.view import Column, View
from vnbench.output.words.levers import varying
from vnbench.output.words.noise import coverage_line, drift_line
from vnbench.output.words.numbers import MISSING, fixed, format_estimate, scaled, supported, times, told
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.output.words.reproduced import reproduced_lines
from vnbench.output.words.row_notes import row_notes, shared_codes, short, status_cell, subject
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import BYTES_PER_UNIT, count, format_bytes, memory_unit, mpx

CENTRE = "centre"
"""Stands where a row would be compared with itself."""


def summary_table(
    records: Sequence[TrialRecord], *, price_per_hour: float | None = None, centre: TrialSpec | None = None
) -> RenderableType:
    """Return the table of all training trials with its notes.

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
        view = View(rows, [*lever_columns(levers, lambda row: row.spec), *_columns(rows, sides)])
        # Nothing stands above the line, or below it, where all rows are of one kind.
        table = FittedTable(view=view, lines_after=[len(timed) - 1], elsewhere="vnbench export")
        parts += [Text(shared_levers([row.spec for row in rows])), table]
        if price_per_hour is not None and timed:
            parts += [Text(), epoch_table(timed, names=levers, price_per_hour=price_per_hour)]
    else:
        parts.append(Text("No training trial in these records."))
    notes = [*row_notes(rows), *_failed_families(latest, rows)]
    notes += _what_figures_are(timed, noise, sides)
    notes += reproduced_lines(latest)
    if any(row.worst_case_status is None for row in rows):
        notes.append(f"{MISSING} under peak: no worst-case trial covers this configuration.")
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}.")
    notes.append(origin.line(_trials(latest, num_rows=len(rows))))
    return Group(*parts, Text(), *map(Text, notes))


def split_by_timing(summaries: Sequence[TrialSummary]) -> tuple[tuple[TrialSummary, ...], tuple[TrialSummary, ...]]:
    """Return the trials with a valid throughput, fastest first, and those without, in the order given."""
    timed = [row for row in summaries if row.valid_px_per_s is not None]
    timed.sort(key=lambda row: row.valid_px_per_s.value if row.valid_px_per_s else 0.0, reverse=True)
    return tuple(timed), tuple(row for row in summaries if row.valid_px_per_s is None)


def _columns(rows: Sequence[TrialSummary], sides: SideBySide) -> list[Column[TrialSummary]]:
    """Return the columns of figures that some rows need, and how the trials ended."""
    longest_s = max((row.step_time.value for row in rows if row.step_time), default=0.0)
    # Milliseconds as long as the longest step needs no more than four digits.
    unit, per_second = ("ms", 1e3) if longest_s < 10 else ("s", 1.0)
    largest = max((row.worst_case_peak_bytes or 0 for row in rows), default=0)
    unit_of_peak = memory_unit(largest)
    shared = shared_codes(rows)

    def speed(row: TrialSummary) -> str:
        return told(scaled(row.valid_px_per_s, mpx(1)))

    def step_time(row: TrialSummary) -> str:
        time = scaled(row.step_time, per_second)
        return MISSING if time is None else supported(time.value, time.half_width)

    columns: list[Column[TrialSummary]] = [
        Column("n", lambda row: row.num_processes or None, gives_way=4),
        Column("valid", speed, unit="Mpx/s"),
        Column("times\ncentre", lambda row: _ratio(row, sides), gives_way=1),
        Column("step", step_time, unit=unit, gives_way=6),
        Column(
            "pad", lambda row: times(row.padding_ratio, 100), unit="%", text=partial(fixed, decimals=1), gives_way=3
        ),
        Column(
            "wait", lambda row: times(row.data_wait_ratio, 100), unit="%", text=partial(fixed, decimals=0), gives_way=5
        ),
        Column("peak", lambda row: _peak(row, unit=unit_of_peak), unit=unit_of_peak, gives_way=2),
        Column("status", lambda row: status_cell(row, shared=shared), align="left"),
    ]
    needed = {
        "n": any(row.num_processes > 1 for row in rows),
        "times\ncentre": sum(row.num_processes > 0 for row in rows) > 1,
    }
    return [column for column in columns if needed.get(column.heading, True)]


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
    memory = f" (of {format_bytes(capacity)})" if capacity else ""
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
