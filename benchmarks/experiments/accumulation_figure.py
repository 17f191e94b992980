"""The figure of accumulation_report.py: time of a step by phase, worst-case peak and padding by micro-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accumulation_rows import STEP, Row, is_as_drawn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vnbench.output.plots.style import legend_below, new_panels
from vnbench.output.words.levers import describe
from vnbench.output.words.provenance import Provenance
from vnbench.trial.instruments.timing import PHASES, Phase
from vnbench.units import count, gib

STYLES: Mapping[Phase, tuple[str, str]] = {
    "data_wait": ("#FFFFFF", "...."),
    "h2d": ("#F0E442", ""),
    "forward": ("#9BD3F5", "////"),
    "backward": ("#5AA0CF", ""),
    "optimizer": ("#000000", ""),
}
"""Colour and hatch of each phase, from light to dark."""

PHASE_WORDS: Mapping[Phase, str] = {
    "data_wait": "waiting for data",
    "h2d": "to the device",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "update",
}

EDGE = "#222222"
BAR: dict[str, Any] = {"width": 0.5, "edgecolor": EDGE, "linewidth": 0.6}
AS_DRAWN: dict[str, Any] = {
    "marker": "D",
    "markersize": 5,
    "markerfacecolor": "white",
    "color": EDGE,
    "linestyle": "none",
}
BESIDE = 0.36
"""Distance of points from the middle of their bar."""

SMALL_SHARE = 0.01
"""Share of a step below which a phase is invisible in the figure, and is named instead."""


def figure_of(rows: Sequence[Row], *, origin: Provenance) -> Figure:
    spec = rows[0].summary.spec
    names = ("model", "precision", "norm_precision", "checkpointing")
    figure, (time_axes, memory_axes, padding_axes) = new_panels(
        title=f"{spec.batch_size} examples per step, in ever smaller passes",
        caption="Bars: micro-batches grouped by size; diamonds: as drawn. Whiskers: 95 % interval of the step.",
        remarks=[
            f"All: {describe(spec, names=names)}, the same examples.",
            told_small(rows),
            "Peak: one step on a micro-batch of the largest images.",
        ],
        origin=origin,
        trials=count(sum(row.summary.num_processes for row in rows), "training trial"),
        ratios=(1.0, 0.42, 0.42),
    )
    sizes = list(dict.fromkeys(row.micro_batch_size for row in rows))
    for row in rows:
        place = sizes.index(row.micro_batch_size)
        draw_time(time_axes, place, row)
        draw_peak(memory_axes, place, row)
        draw_padding(padding_axes, place, row)
    time_axes.set_ylabel("time of a step (s)")
    memory_axes.set_ylabel("peak (GiB)")
    padding_axes.set_ylabel("padding (%)")
    padding_axes.set_xlabel("micro-batch (examples per pass)")
    padding_axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    for axes in (time_axes, memory_axes, padding_axes):
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
    patches = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=EDGE, label=PHASE_WORDS[name])
        for name, (colour, hatch) in STYLES.items()
    ]
    legend_below(padding_axes, handles=[*patches, Line2D([], [], **AS_DRAWN, label="as drawn")])
    return figure


def told_small(rows: Sequence[Row]) -> str:
    """Return a sentence that names the phases too short to be visible."""
    timed = [row.figures for row in rows if row.figures]
    small = [phase for phase in PHASES if all(one[phase].value < SMALL_SHARE * one[STEP].value for one in timed)]
    return (
        f"Under {100 * SMALL_SHARE:g} % of every step: {', '.join(PHASE_WORDS[phase] for phase in small)}."
        if small
        else ""
    )


def draw_time(axes: Axes, place: int, row: Row) -> None:
    """Draw a step's phases as a stack, or a point for a step as drawn, with the interval of the step."""
    if not row.figures:
        return
    step = row.figures[STEP]
    if is_as_drawn(row.summary.spec):
        axes.errorbar(place + BESIDE, step.value, yerr=step.half_width, capsize=3, **AS_DRAWN)
        return
    bottom_s = 0.0
    for phase, (colour, hatch) in STYLES.items():
        height_s = row.figures[phase].value
        axes.bar(place, height_s, bottom=bottom_s, **BAR, color=colour, hatch=hatch)
        bottom_s += height_s
    axes.errorbar(place, step.value, yerr=step.half_width, capsize=4, color=EDGE, linestyle="none")


def draw_peak(axes: Axes, place: int, row: Row) -> None:
    """Draw the worst-case peak, which does not depend on how a step is grouped, or else how that trial ended."""
    one = row.summary
    if is_as_drawn(one.spec):
        return
    if one.worst_case_peak_bytes is not None:
        axes.bar(place, gib(one.worst_case_peak_bytes), **BAR, color="#999999")
    elif one.worst_case_status is not None:
        axes.annotate(one.worst_case_status, (place, 0), ha="center", va="bottom", fontsize=8.5)


def draw_padding(axes: Axes, place: int, row: Row) -> None:
    if (ratio := row.summary.subset_padding_ratio) is None:
        return
    if is_as_drawn(row.summary.spec):
        axes.plot(place + BESIDE, 100 * ratio, **AS_DRAWN)
    else:
        axes.bar(place, 100 * ratio, **BAR, color="#999999")
