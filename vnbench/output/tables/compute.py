"""The table of compute trials for the terminal: a block per configuration, a line per canvas, largest first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.trials.compute import CanvasSummary, ComputeSummary, summarize_compute
from vnbench.analysis.trials.cost import cost_of_epoch, split_by_range, time_of_passes
from vnbench.analysis.trials.loop_costs import TOLERATED_SHARE, LoopCost, break_even_px, on_any_canvas
from vnbench.analysis.trials.memory_law import fit_memory_law
from vnbench.analysis.trials.noise import measure_noise
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.lever_columns import shared_levers
from vnbench.output.view import Column, View
from vnbench.output.words.noise import coverage_line, drift_line
from vnbench.output.words.numbers import fixed, format_estimate, roughly, significant, supported, time_unit, times, told
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.output.words.row_notes import row_notes, shared_codes, status_cell, subject
from vnbench.records.readings import StopRule
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ComputeSpec, TrainingSpec
from vnbench.units import BYTES_PER_UNIT, count, format_bytes, memory_unit, mpx

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
    """Return the table of all compute trials with its notes; None without any.

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
    parts += [_blocks(timed, rows)] if timed else []
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
    notes += [line for row in timed if (line := _loop_line(row, rows)) is not None]
    if noise.drift is not None and not of_kind(latest, TrainingSpec):
        notes.append(drift_line(noise.drift))
    if origin.is_cpu:
        notes.append(f"{CPU_LABEL}.")
    num_trials = len(of_kind(latest, ComputeSpec))
    of = f" of {count(len(rows), 'configuration')}" if num_trials != len(rows) else ""
    notes.append(origin.line(f"{count(num_trials, 'compute trial')}{of}"))
    return Group(*parts, Text(), *map(Text, notes))


def _blocks(timed: Sequence[ComputeSummary], rows: Sequence[ComputeSummary]) -> FittedTable[CanvasSummary]:
    """Return the canvases of all configurations, those of each below a line that names it."""
    canvases = [canvas for row in timed for canvas in row.canvases]
    # Milliseconds as long as the longest step needs no more than four digits.
    is_in_ms = max(canvas.step_time.value for canvas in canvases) < 10
    fastest = max((canvas.flop_per_s or 0.0 for canvas in canvases), default=0.0)
    shared = shared_codes(rows)
    titles: dict[int, str] = {}
    start = 0
    for row in timed:
        processes = f" ({count(row.num_processes, 'process')})" if row.num_processes > 1 else ""
        titles[start] = f"{subject(row, rows)}{processes}: {status_cell(row, shared=shared)}"
        start += len(row.canvases)
    # A column of which nothing is known is what this device does not tell.
    unit_of_peak = memory_unit(max((_peak(canvas) or 0 for canvas in canvases), default=0))
    columns = _columns(is_in_ms=is_in_ms, is_in_tflop=fastest >= 1e12, unit_of_peak=unit_of_peak)
    view = View(canvases, columns).told()
    return FittedTable(view=view, titles=titles, elsewhere="vnbench export --what canvases")


def _columns(*, is_in_ms: bool, is_in_tflop: bool, unit_of_peak: str) -> tuple[Column[CanvasSummary], ...]:
    unit, per_second = ("ms", 1e3) if is_in_ms else ("s", 1.0)
    flop_unit, per_flop = ("TFLOP", 1 / 1e12) if is_in_tflop else ("GFLOP", 1 / 1e9)

    def step_time(canvas: CanvasSummary) -> str:
        time = canvas.step_time
        return format_estimate(per_second * time.value, times(time.half_width, per_second))

    def first_seen(canvas: CanvasSummary) -> float | None:
        return times(canvas.first_seen_s, per_second)

    def as_sure(
        heading: str,
        value: Callable[[CanvasSummary], float | None],
        *,
        scale: float = 1.0,
        unit: str = "",
        gives_way: int = 0,
    ) -> Column[CanvasSummary]:
        """Return a column with no more digits than the step time supports: its parts and inverses know no more."""

        def told(canvas: CanvasSummary) -> str:
            figure = times(value(canvas), scale)
            return supported(figure, times(figure, canvas.step_time.relative_half_width))

        return Column(heading, told, unit=unit, gives_way=gives_way)

    return (
        Column("canvas", lambda canvas: f"{canvas.height} x {canvas.width}", unit="px", align="left"),
        Column("padded", lambda canvas: mpx(canvas.padded_pixels), unit="Mpx", text=significant, gives_way=2),
        Column("step time", step_time, unit=unit),
        as_sure("fwd", lambda canvas: canvas.phases_s.get("forward"), scale=per_second, unit=unit, gives_way=6),
        as_sure("bwd", lambda canvas: canvas.phases_s.get("backward"), scale=per_second, unit=unit, gives_way=6),
        as_sure("opt", lambda canvas: canvas.phases_s.get("optimizer"), scale=per_second, unit=unit, gives_way=6),
        as_sure("valid", lambda canvas: mpx(canvas.valid_px_per_s), unit="Mpx/s"),
        as_sure("padded", lambda canvas: mpx(canvas.padded_px_per_s), unit="Mpx/s", gives_way=4),
        as_sure("examples", lambda canvas: canvas.examples_per_s, unit="/s", gives_way=3),
        as_sure(flop_unit, lambda canvas: canvas.flop_per_s, scale=per_flop, unit="/s", gives_way=5),
        Column(
            "over own\nloop, ms",
            lambda canvas: None if canvas.over_own_loop is None else added_ms(canvas.over_own_loop),
            gives_way=1,
        ),
        Column("first", first_seen, unit=unit, text=roughly, gives_way=8),
        Column(
            "over\nmean", lambda canvas: canvas.first_seen_ratio, text=lambda ratio: f"x {roughly(ratio)}", gives_way=9
        ),
        Column(
            "peak",
            lambda canvas: times(_peak(canvas), 1 / BYTES_PER_UNIT[unit_of_peak]),
            unit=unit_of_peak,
            text=significant,
            gives_way=1,
        ),
        Column(
            "host",
            lambda canvas: times(canvas.host_growth_bytes, 1 / BYTES_PER_UNIT["MiB"]),
            unit="+MiB",
            text=partial(fixed, decimals=0),
            gives_way=10,
        ),
        Column(
            "ended\nby", lambda canvas: "/".join(STOP_WORDS[rule] for rule in canvas.stop_rules) or None, gives_way=11
        ),
    )


def _peak(canvas: CanvasSummary) -> int | None:
    return canvas.peak_allocated_bytes if canvas.peak_reserved_bytes is None else canvas.peak_reserved_bytes


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


def _loop_line(row: ComputeSummary, rows: Sequence[ComputeSummary]) -> str | None:
    """Return what a framework's loop adds to a pass, and on which canvases that is little; None for the own loop."""
    whole = on_any_canvas(row.loop_costs)
    if whole is None:
        return None
    border = break_even_px(row.loop_costs, whole.added_s)
    where = f"below {significant(mpx(border))} padded Mpx per pass" if 0 < border < math.inf else "on every canvas"
    share = f"{'more' if border else 'less'} than {100 * TOLERATED_SHARE:g} % of a step {where}"
    return (
        f"over the own loop: {subject(row, rows)}: {added_ms(whole)} ms per pass, {share} (median of "
        f"{count(whole.num_pairs, 'pair')} of steps in turn in one process)"
    )


def added_ms(one: LoopCost) -> str:
    """Return the milliseconds that a framework adds, with their interval."""
    ends = "" if one.interval_s is None else " ({} to {})".format(*(roughly(1000 * end) for end in one.interval_s))
    return f"{roughly(1000 * one.added_s)}{ends}"


def _epoch_line(
    row: ComputeSummary, rows: Sequence[ComputeSummary], passes: Sequence[int], *, price_per_hour: float | None
) -> str:
    """Return what an epoch of these passes takes and costs; passes outside what was measured are named, not guessed."""
    inside, outside = split_by_range(row.canvases, passes)
    low, high = (mpx(choose(canvas.padded_pixels for canvas in row.canvases)) for choose in (min, max))
    left_out = f"{len(outside):,} of {count(len(passes), 'pass')}"
    if outside:
        left_out += f" ({_span(outside)} padded Mpx, measured {low:.3g} to {high:.3g})"
    if not inside:
        return f"epoch: {subject(row, rows)}: not told, no canvas near {left_out}"
    epoch = time_of_passes(row.canvases, inside, spread=row.spread)
    priced = cost_of_epoch(epoch, price_per_hour=price_per_hour, power_w=row.power_w)
    unit, seconds = time_unit(epoch.value)
    amounts = [(priced.time / seconds, f"{{}} {unit} of computing")]
    if priced.cost is not None:
        amounts.append((priced.cost, "cost {}"))
        amounts += [(priced.energy_kwh, "{} kWh")] if priced.energy_kwh is not None else []
    amount = ", ".join(text.format(told(value)) for value, text in amounts)
    missing = f", without {left_out}" if outside else ""
    return f"epoch: {subject(row, rows)}: {amount} in {count(len(inside), 'pass')}{missing}"


def _span(passes: Sequence[int]) -> str:
    low, high = (f"{mpx(choose(passes)):.3g}" for choose in (min, max))
    return low if low == high else f"{low} to {high}"
