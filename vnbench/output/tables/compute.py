"""The table of compute trials for the terminal: a block per configuration, a line per canvas, largest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.trials.compute import CanvasSummary, ComputeSummary, summarize_compute
from vnbench.analysis.trials.cost import cost_of_epoch, epoch_time, split_by_range
from vnbench.analysis.trials.memory_law import fit_memory_law
from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.output.words.lever_columns import shared_levers
from vnbench.output.words.noise import coverage_line, drift_line
from vnbench.output.words.numbers import MISSING, format_estimate, significant, supported, time_unit, times
from vnbench.output.words.provenance import CPU_LABEL, count, provenance
from vnbench.output.words.row_notes import row_notes, shared_codes, status_cell, subject
from vnbench.records.readings import StopRule
from vnbench.records.record import TrialRecord
from vnbench.units import BYTES_PER_UNIT, format_bytes, gib, mpx

STOP_WORDS: Mapping[StopRule, str] = {
    "noise-target": "noise",
    "max-steps": "steps",
    "max-epochs": "epochs",
    "max-measuring-time": "time",
}
"""What ended measuring, in a word of a narrow column."""


def compute_table(
    records: Sequence[TrialRecord],
    *,
    price_per_hour: float | None = None,
    passes: Mapping[int, Sequence[int]] | None = None,
) -> RenderableType | None:
    """Return the table of all compute trials with its notes, for a console of 100 columns or more; None without any.

    ``passes`` gives, by micro_batch_size, the padded pixels of every forward and backward pass of an epoch: what a
    plan's passes cost depends on precision and the like, which passes there are does not. With it every configuration
    gets a line on its epoch, and with ``price_per_hour``, in any currency, what that costs.

    Raises:
        InputError: the records come from more than one device.
    """
    latest = latest_attempts(records)
    rows = summarize_compute(latest)
    if not rows:
        return None
    origin = provenance(records)
    noise = measure_noise(latest)
    timed = [row for row in rows if row.canvases]
    parts: list[RenderableType] = [Text(shared_levers([row.spec for row in rows], trials="compute trials"))]
    parts += _blocks(timed, rows) if timed else []
    notes = row_notes(rows)
    if timed:
        notes += [
            f"Intervals: 95 %, {coverage_line(noise, kind='compute')}; fwd, bwd, opt: forward, backward, optimizer; "
            "first: the first step on a canvas, in its unit and over the mean of the measured ones; ended by: what "
            "ended measuring, the noise target or a cap on steps or time."
        ]
        notes += [line for row in timed if (line := _memory_line(row, rows)) is not None]
        notes += [
            _epoch_line(row, rows, passes[row.spec.micro_batch_size], price_per_hour=price_per_hour)
            for row in timed
            if passes and row.spec.micro_batch_size in passes
        ]
    if noise.drift is not None and not any(record.kind == "training" for record in latest):
        notes.append(drift_line(noise.drift))
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}.")
    num_trials = sum(record.kind == "compute" for record in latest)
    of = f" of {count(len(rows), 'configuration')}" if num_trials != len(rows) else ""
    notes.append(origin.line(f"{count(num_trials, 'compute trial')}{of}"))
    return Group(*parts, Text(), *map(Text, notes))


def _blocks(timed: Sequence[ComputeSummary], rows: Sequence[ComputeSummary]) -> list[RenderableType]:
    """Return a heading and a table per configuration; columns stand at the same places in all of them."""
    canvases = [canvas for row in timed for canvas in row.canvases]
    # Milliseconds as long as the longest step needs no more than four digits.
    per_second = 1e3 if max(canvas.step_time.value for canvas in canvases) < 10 else 1.0
    fastest = max((canvas.flop_per_s or 0.0 for canvas in canvases), default=0.0)
    flop_unit = 1e12 if fastest >= 1e12 else 1e9
    blocks = [[_cells(canvas, per_second=per_second, flop_unit=flop_unit) for canvas in row.canvases] for row in timed]
    headers = _headers(per_second=per_second, flop_unit=flop_unit)
    shared = shared_codes(rows)
    lines = [line for block in blocks for line in block]
    # A column of nothing but missing figures is what this device does not tell.
    shown = [index for index in range(len(headers)) if any(line[index] != MISSING for line in lines)]
    widths = [max(len(part) for line in (*lines, headers) for part in line[index].split("\n")) for index in shown]
    parts: list[RenderableType] = []
    for number, (row, block) in enumerate(zip(timed, blocks, strict=True)):
        processes = f" ({row.num_processes} processes)" if row.num_processes > 1 else ""
        # One space between columns: fifteen of them fit a hundred columns of text.
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, show_edge=False, show_header=number == 0)
        for index, width in zip(shown, widths, strict=True):
            justify: Literal["left", "right"] = "left" if index == 0 else "right"
            table.add_column(headers[index], justify=justify, no_wrap=True, min_width=width)
        for line in block:
            table.add_row(*(Text(line[index]) for index in shown))
        parts += [
            *([Text()] if number else []),
            Text(f"{subject(row, rows)}{processes}: {status_cell(row, shared=shared)}"),
            table,
        ]
    return parts


def _headers(*, per_second: float, flop_unit: float) -> tuple[str, ...]:
    unit = "ms" if per_second > 1 else "s"
    return (
        "canvas\npx",
        "padded\nMpx",
        f"step time\n{unit}",
        f"fwd\n{unit}",
        f"bwd\n{unit}",
        f"opt\n{unit}",
        "valid\nMpx/s",
        "padded\nMpx/s",
        "exam-\nples/s",
        "TFLOP\n/s" if flop_unit == 1e12 else "GFLOP\n/s",
        f"first\n{unit}",
        "over\nmean",
        "peak\nGiB",
        "host\n+MiB",
        "ended\nby",
    )


def _cells(canvas: CanvasSummary, *, per_second: float, flop_unit: float) -> tuple[str, ...]:
    time = canvas.step_time
    peak = canvas.peak_allocated_bytes if canvas.peak_reserved_bytes is None else canvas.peak_reserved_bytes
    growth = canvas.host_growth_bytes

    def as_sure(value: float | None) -> str:
        """Return a figure with no more digits than the step time supports: its parts and inverses know no more."""
        return supported(value, times(value, time.relative_half_width))

    return (
        f"{canvas.height} x {canvas.width}",
        significant(mpx(canvas.padded_pixels)),
        format_estimate(per_second * time.value, times(time.half_width, per_second)),
        *(as_sure(times(canvas.phases_s.get(name), per_second)) for name in ("forward", "backward", "optimizer")),
        as_sure(mpx(canvas.valid_px_per_s)),
        as_sure(mpx(canvas.padded_px_per_s)),
        as_sure(canvas.examples_per_s),
        as_sure(times(canvas.flop_per_s, 1 / flop_unit)),
        significant(times(canvas.first_seen_s, per_second), digits=2),
        MISSING if canvas.first_seen_ratio is None else f"x {significant(canvas.first_seen_ratio, digits=2)}",
        significant(None if peak is None else gib(peak)),
        MISSING if growth is None else f"{growth / BYTES_PER_UNIT['MiB']:.0f}",
        "/".join(STOP_WORDS[rule] for rule in canvas.stop_rules) or MISSING,
    )


def _memory_line(row: ComputeSummary, rows: Sequence[ComputeSummary]) -> str | None:
    """Return the law that the peaks of a configuration follow, and how far it is off; None without an error to tell."""
    law = fit_memory_law(row.peaks)
    if law is None or law.loo_error_median is None or law.loo_error_max is None:
        return None
    slope = significant(law.bytes_per_pixel)
    return (
        f"memory of tensors: {subject(row, rows)}: {format_bytes(law.bytes_fixed)} + {slope} "
        f"bytes per padded pixel; without a canvas it is off there by {100 * law.loo_error_median:.2g} % (median), at "
        f"most {100 * law.loo_error_max:.2g} %"
    )


def _epoch_line(
    row: ComputeSummary, rows: Sequence[ComputeSummary], passes: Sequence[int], *, price_per_hour: float | None
) -> str:
    """Return what an epoch of these passes takes and costs; passes outside what was measured are named, not guessed."""
    inside, outside = split_by_range(row.canvases, passes)
    low, high = (mpx(choose(canvas.padded_pixels for canvas in row.canvases)) for choose in (min, max))
    left_out = f"{len(outside):,} of {_passes(len(passes))}"
    if outside:
        left_out += f" ({_span(outside)} padded Mpx, measured {low:.3g} to {high:.3g})"
    if not inside:
        return f"epoch: {subject(row, rows)}: not told, no canvas near {left_out}"
    epoch = epoch_time(row.canvases, inside, spread=row.spread)
    relative = epoch.relative_half_width
    priced = cost_of_epoch(
        epoch.value, relative_half_width=relative, price_per_hour=price_per_hour, power_w=row.power_w
    )
    unit, seconds = time_unit(epoch.value)
    amounts = [(epoch.value / seconds, f"{{}} {unit} of computing")]
    if priced.cost is not None:
        amounts.append((priced.cost, "cost {}"))
        amounts += [(priced.energy_kwh, "{} kWh")] if priced.energy_kwh is not None else []
    told = ", ".join(text.format(format_estimate(value, times(value, relative))) for value, text in amounts)
    missing = f", without {left_out}" if outside else ""
    return f"epoch: {subject(row, rows)}: {told} in {_passes(len(inside))}{missing}"


def _passes(number: int) -> str:
    return "1 pass" if number == 1 else f"{number:,} passes"


def _span(passes: Sequence[int]) -> str:
    low, high = (f"{mpx(choose(passes)):.3g}" for choose in (min, max))
    return low if low == high else f"{low} to {high}"
