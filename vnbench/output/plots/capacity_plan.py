"""Figures of a capacity plan: wall clock against batch, memory and interruptions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vnbench.analysis.planning.capacity import Asked, PlannedRun, pareto_front
from vnbench.analysis.planning.interruptions import (
    best_interval_of_count_s,
    daly_interval_s,
    rounded_interval_s,
    young_interval_s,
)
from vnbench.analysis.planning.spread import Finish, Interruptions, finish_of
from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB
from vnbench.output.plots.looks import BLUE, VERMILLION, looks_of
from vnbench.output.plots.series import POINT_GAP, draw_bands, moved
from vnbench.output.plots.style import HATCH, HATCHED, decades, hatched, legend_below, new_figure, number_axis
from vnbench.output.words.numbers import time_unit
from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.words import Precision
from vnbench.units import BYTES_PER_UNIT, count, format_duration, gib, memory_unit

MAX_INTERRUPTIONS = 6

NUM_INTERVALS = 25

INTERVAL_SPAN = 30.0
"""How many times as long and as short as the best intervals are drawn: beyond them curves are straight."""

MAX_WINDOW = 1.5
"""A window of more than so many times the longest run is not drawn: it would press the curves to the ground."""

BOX_WIDTH = 0.09
"""Width of a hatched box over a batch size, as a share of it: narrower than the gap to the next point."""

WITH, WITHOUT = BLUE, VERMILLION
"""Marker and line tell them apart as well."""


def run_line(asked: Asked) -> str:
    """Return the run that is planned, as a remark."""
    inside = asked.interruptions
    often = f", {count(inside.count, 'interruption')}" if inside.count else ""
    return f"Run: {_work(asked)}{often}."


def _work(asked: Asked) -> str:
    return f"{count(len(asked.train_sizes_N2), 'example')} x {count(asked.num_epochs, 'epoch')}"


def finish_bars(finishes: Sequence[Finish], *, unit_s: float) -> list[list[float]]:
    """Return how far p10 and p90 lie from each median, as matplotlib takes the ends of bars."""
    return [[(one.p50 - one.p10) / unit_s for one in finishes], [(one.p90 - one.p50) / unit_s for one in finishes]]


def caption_of(runs: Iterable[PlannedRun]) -> str:
    """Return what a caption adds where some runs were forecast."""
    return f" {HATCHED}." if any(one.evidence == "forecast" for one in runs) else ""


def _draw_band(axes: Axes, places: Sequence[float], finishes: Sequence[Finish], *, unit_s: float, **drawn: Any) -> None:
    lows, highs = [one.p10 / unit_s for one in finishes], [one.p90 / unit_s for one in finishes]
    axes.fill_between(places, lows, highs, **drawn)


def _draw_window(axes: Axes, asked: Asked, *, longest_s: float, unit_s: float) -> None:
    if asked.window_s is not None and asked.window_s <= MAX_WINDOW * longest_s:
        axes.axhline(
            asked.window_s / unit_s,
            color="#222222",
            linestyle=":",
            linewidth=1.3,
            label=f"window, {format_duration(asked.window_s)}",
        )


def wall_clock_figure(runs: Sequence[PlannedRun], *, asked: Asked, origin: Provenance) -> Figure | None:
    """Return wall clock against batch size, the fastest that fits of each precision; None with a single batch size.

    The line that counts steps takes every step to cost what one of the smallest batch does.
    """
    best: dict[Precision, dict[int, PlannedRun]] = {}
    for one in runs:
        if one.verdict == "does not fit" or not math.isfinite(one.finish.p90):
            continue
        row = best.setdefault(one.levers["precision"], {})
        batch_size = one.levers["batch_size"]
        if batch_size not in row or one.finish.p50 < row[batch_size].finish.p50:
            row[batch_size] = one
    batches = sorted({size for row in best.values() for size in row})
    if len(batches) < 2:
        return None
    longest_s = max(one.finish.p90 for row in best.values() for one in row.values())
    unit, unit_s = time_unit(longest_s)
    figure, axes = new_figure(
        title="Wall clock against batch size",
        caption="The fastest configuration that fits, of each batch size and precision. Bars: p10 to p90"
        f"{'' if origin.is_forecast else '; hollow: not trained, but composed of timed parts'}."
        f"{caption_of(one for row in best.values() for one in row.values())}",
        remarks=[run_line(asked), "At equal epochs: a larger batch may need more of them."],
        origin=origin,
        trials=origin.planned_from,
    )
    looks = looks_of(best)
    for rank, (precision, row) in enumerate(sorted(best.items())):
        # Side by side at a batch size, so that no bar hides another.
        share = POINT_GAP * (rank - (len(best) - 1) / 2)
        places = {size: moved(size, share, ticks=batches, scale="log2") for size in sorted(row)}
        finishes = [row[size].finish for size in places]
        look = looks[precision]
        axes.errorbar(
            [*places.values()],
            [one.p50 / unit_s for one in finishes],
            yerr=finish_bars(finishes, unit_s=unit_s),
            color=look.colour,
            marker=look.marker,
            linewidth=1.3,
            elinewidth=1.1,
            capsize=3,
            label=precision,
        )
        forecast = [size for size in places if row[size].evidence == "forecast"]
        axes.bar(
            [places[size] for size in forecast],
            [(row[size].finish.p90 - row[size].finish.p10) / unit_s for size in forecast],
            bottom=[row[size].finish.p10 / unit_s for size in forecast],
            width=[BOX_WIDTH * places[size] for size in forecast],
            **hatched(look.colour),
        )
        composed = [size for size in places if row[size].evidence != "measured"]
        axes.plot(
            [places[size] for size in composed],
            [row[size].finish.p50 / unit_s for size in composed],
            color=look.colour,
            marker=look.marker,
            markerfacecolor="white",
            linestyle="none",
            zorder=3,
        )
    fastest = min(best.values(), key=lambda row: min(one.finish.p50 for one in row.values()))
    first = min(fastest)
    start = fastest[first]
    axes.plot(
        batches,
        # Only the work counts steps: interruptions cost what they cost.
        [(start.finish.p50 - start.run.total_s * (1 - first / size)) / unit_s for size in batches],
        color="#666666",
        linestyle="--",
        linewidth=1.2,
        label=f"if a step took what it does at batch {first}",
    )
    _draw_window(axes, asked, longest_s=longest_s, unit_s=unit_s)
    number_axis(axes, batches, scale="log2")
    if len(best) > 1:
        draw_bands(axes, batches, scale="log2")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch size (examples per optimizer step)")
    axes.set_ylabel(f"wall clock ({unit})")
    legend_below(axes)
    return figure


def pareto_figure(runs: Sequence[PlannedRun], *, asked: Asked, origin: Provenance) -> Figure | None:
    """Return wall clock against worst-case memory, one point per configuration; None where no memory is known."""
    known = [one for one in runs if one.need_bytes is not None and math.isfinite(one.finish.p90)]
    if not known:
        return None
    unit, unit_s = time_unit(max(one.finish.p90 for one in known))
    largest_bytes = max(one.need_bytes or 0.0 for one in known)
    size_unit = memory_unit(largest_bytes)
    unit_bytes = BYTES_PER_UNIT[size_unit]
    figure, axes = new_figure(
        title="Time against memory",
        caption="Along the line nothing else is both faster and smaller. Bars: p10 to p90; hollow: too large for the "
        f"card, or unknown.{caption_of(known)}",
        remarks=[run_line(asked)],
        origin=origin,
        trials=origin.planned_from,
    )
    front = pareto_front(known)
    axes.plot(
        [(one.need_bytes or 0.0) / unit_bytes for one in front],
        [one.finish.p50 / unit_s for one in front],
        color="#888888",
        linewidth=1.0,
        zorder=1,
        drawstyle="steps-post",
    )
    looks = looks_of(one.levers["precision"] for one in known)
    seen: set[str] = set()
    for one in known:
        precision = one.levers["precision"]
        axes.errorbar(
            (one.need_bytes or 0.0) / unit_bytes,
            one.finish.p50 / unit_s,
            yerr=finish_bars([one.finish], unit_s=unit_s),
            color=looks[precision].colour,
            marker=looks[precision].marker,
            fillstyle="full" if one.verdict in ("fits", "tight") else "none",
            linestyle="none",
            elinewidth=0.9,
            label=None if precision in seen else precision,
        )
        seen.add(precision)
        if (least := one.worst_case.least_bytes) is not None and one.need_bytes is not None:
            axes.bar(
                least / unit_bytes,
                (one.finish.p90 - one.finish.p10) / unit_s,
                bottom=one.finish.p10 / unit_s,
                width=(one.need_bytes - least) / unit_bytes,
                align="edge",
                **hatched(looks[precision].colour),
            )
    if not origin.is_cpu:
        for size in [size for size in CARD_SIZES_GIB if size <= 1.1 * gib(largest_bytes)]:
            axes.axvline(size, color="#BBBBBB", linestyle=":", linewidth=1.0)
            axes.text(size, axes.get_ylim()[1], f"{size}", fontsize=7.5, ha="center", va="bottom", color="#555555")
    axes.set_xlim(0, 1.1 * largest_bytes / unit_bytes)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"worst-case memory ({size_unit})")
    axes.set_ylabel(f"wall clock ({unit})")
    legend_below(axes)
    return figure


def interruptions_figure(best: PlannedRun, *, asked: Asked, origin: Provenance, name: str) -> Figure | None:
    """Return the finish against the number of interruptions; None where the run never finishes."""
    counts = range(MAX_INTERRUPTIONS + 1)
    curves: dict[str, list[Finish]] = {"with snapshots": [], "without snapshots": []}
    for number in counts:
        inside = Interruptions(
            count=number, restart_s=asked.interruptions.restart_s, snapshot_s=asked.interruptions.snapshot_s
        )
        work_s = best.run.work_s
        interval_s = rounded_interval_s(
            best_interval_of_count_s(
                work_s=work_s, snapshot_s=inside.snapshot_s, num_interruptions=number, is_worst=False
            ),
            step_s=best.run.step_s,
            work_s=work_s,
        )
        for label, chosen in (("with snapshots", interval_s), ("without snapshots", None)):
            finish = finish_of(best.run, inside, interval_s=chosen, window_s=asked.window_s, seed=asked.seed)
            curves[label].append(finish)
    longest_s = max(finish.p90 for finishes in curves.values() for finish in finishes)
    if not math.isfinite(longest_s):
        return None
    unit, unit_s = time_unit(longest_s)
    figure, axes = new_figure(
        title="Finish against interruptions",
        caption="Interruptions come at random moments, snapshots at the interval that is best for their number. "
        f"Bands: p10 to p90.{caption_of([best])}",
        remarks=[
            f"Run: {_work(asked)} with {name}.",
            f"A restart takes {format_duration(asked.interruptions.restart_s)}, a snapshot "
            f"{format_duration(asked.interruptions.snapshot_s)}.",
        ],
        origin=origin,
        trials=origin.planned_from,
    )
    for (label, finishes), colour, marker, line, hatch in zip(
        curves.items(), (WITH, WITHOUT), ("o", "s"), ("-", "--"), (HATCH, "\\\\\\\\"), strict=True
    ):
        axes.plot(
            list(counts),
            [one.p50 / unit_s for one in finishes],
            color=colour,
            marker=marker,
            linestyle=line,
            label=label,
        )
        plain: dict[str, Any] = {"color": colour, "alpha": 0.18, "linewidth": 0}
        drawn = hatched(colour, hatch=hatch) if best.evidence == "forecast" else plain
        _draw_band(axes, list(counts), finishes, unit_s=unit_s, **drawn)
    _draw_window(axes, asked, longest_s=longest_s, unit_s=unit_s)
    axes.set_xticks(list(counts))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("interruptions (number)")
    axes.set_ylabel(f"wall clock ({unit})")
    legend_below(axes)
    return figure


def interval_figure(best: PlannedRun, *, asked: Asked, origin: Provenance, name: str) -> Figure | None:
    """Return the finish against the interval between snapshots; None where the run never finishes.

    Beside the planned interval stand those of Young and of Daly, for the mean time between the interruptions.
    """
    inside, work_s = asked.interruptions, best.run.work_s
    mtbi_s = inside.mtbi_s or work_s / (inside.count or 1)
    marks = {
        "Young": young_interval_s(snapshot_s=inside.snapshot_s, mtbi_s=mtbi_s),
        "Daly": daly_interval_s(snapshot_s=inside.snapshot_s, mtbi_s=mtbi_s),
    }
    if best.interval_s is not None:
        marks["planned"] = best.interval_s
    middle_s = min(work_s, math.sqrt(min(marks.values()) * max(marks.values())))
    ends = max(best.run.step_s, middle_s / INTERVAL_SPAN), min(work_s, middle_s * INTERVAL_SPAN)
    places_s = [
        rounded_interval_s(float(one), step_s=best.run.step_s, work_s=work_s)
        for one in np.geomspace(*ends, NUM_INTERVALS)
    ]
    places_s = sorted(set(places_s))
    finishes = [
        finish_of(best.run, inside, interval_s=one, window_s=asked.window_s, seed=asked.seed) for one in places_s
    ]
    longest_s = max(one.p90 for one in finishes)
    if not math.isfinite(longest_s):
        return None
    unit, unit_s = time_unit(longest_s)
    interval_unit, interval_unit_s = time_unit(max(places_s))
    figure, axes = new_figure(
        title="Finish against the interval between snapshots",
        caption=f"Line: median. Band: p10 to p90.{caption_of([best])}",
        remarks=[
            f"{run_line(asked)} With {name}.",
            f"A restart takes {format_duration(inside.restart_s)}, a snapshot {format_duration(inside.snapshot_s)}.",
            f"Young and Daly: for an interruption every {format_duration(mtbi_s)} on average.",
        ],
        origin=origin,
        trials=origin.planned_from,
    )
    shown = [one / interval_unit_s for one in places_s]
    axes.plot(shown, [one.p50 / unit_s for one in finishes], color=WITH, label="with snapshots")
    plain: dict[str, Any] = {"color": WITH, "alpha": 0.18, "linewidth": 0}
    drawn = hatched(WITH, hatch=HATCH) if best.evidence == "forecast" else plain
    _draw_band(axes, shown, finishes, unit_s=unit_s, **drawn)
    for (label, interval_s), line in zip(marks.items(), (":", "-.", "--"), strict=False):
        colour = VERMILLION if label == "planned" else "#555555"
        told = f"{label}, {format_duration(interval_s)}"
        axes.axvline(interval_s / interval_unit_s, color=colour, linestyle=line, linewidth=1.5, label=told)
    axes.set_xscale("log")
    decades(axes.xaxis)
    axes.set_xlabel(f"training between snapshots ({interval_unit})")
    axes.set_ylabel(f"wall clock ({unit})")
    legend_below(axes)
    return figure
