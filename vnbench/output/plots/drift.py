"""The figure of repeated trials against time: how far they lie apart, and whether the machine drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vnbench.analysis.trials.drift import Drift, TimedFigure
from vnbench.analysis.trials.noise import Noise
from vnbench.output.plots.looks import BLUE, VERMILLION
from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.levers import describe, worth_naming
from vnbench.output.words.noise import drift_line
from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec
from vnbench.units import count

MIN_RUNS = 3
"""Runs of the reference from which on there is a course to draw: a line through two points has no interval."""

REFERENCE_COLOUR, LINE_COLOUR = BLUE, VERMILLION
SPREAD_GREY, OTHERS_GREY = "#E4E4E4", "#8C8C8C"

MAX_BAR = 5
"""Times the run-to-run spread, or the largest deviation, up to which a bar is drawn."""

UNIMPORTANT = ("task", "norm_groups", "norm_precision", "corpus_id")
"""Levers that are left out of the reference's name."""


def drift_figure(noise: Noise, *, origin: Provenance) -> Figure | None:
    """Return every repeated trial's deviation from its mean in per cent against minutes since the sweep's start.

    None where no spec ran MIN_RUNS times.
    """
    drift, reference = noise.drift, noise.reference
    if drift is None or reference is None or len(drift.reference) < MIN_RUNS:
        return None
    spread = noise.spread_for(reference.kind)
    assert spread is not None  # what drifts was repeated
    drift, has_bars = _with_telling_bars(drift, spread=spread.relative)
    num_trials = len(drift.reference) + len(drift.others)
    figure, axes = new_figure(
        title="Run-to-run spread and drift",
        caption=drift_line(drift).capitalize().replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
        + (" Bars: 95 % interval over the steps of one process." if has_bars else ""),
        origin=origin,
        trials=count(num_trials, "repeated trial"),
        remarks=[f"Reference: {_name(reference)}, {count(len(drift.reference), 'process')}."],
    )
    handles: list[Line2D | Patch] = [_draw_points(axes, drift.reference)]
    if drift.others:
        handles.append(
            axes.plot(
                *_places(drift.others),
                marker="x",
                markersize=4.5,
                linestyle="none",
                color=OTHERS_GREY,
                zorder=2,
                label="other repeated trials",
            )[0]
        )
    per_cent = 100 * spread.relative
    axes.axhspan(-per_cent, per_cent, color=SPREAD_GREY, linewidth=0, zorder=0)
    handles.append(Patch(color=SPREAD_GREY, label=f"run-to-run spread: ± {per_cent:.2g} %"))
    limit = _scale(axes, drift, spread_per_cent=per_cent)
    if drift.is_told_apart:
        # A line that might as well run the other way says nothing that a reader could use.
        handles += _draw_line(axes, drift, limit=limit)
    axes.set_xlabel("time since the sweep's start (min)")
    axes.set_ylabel("time against its mean (%)")
    legend_below(axes, handles=handles)
    return figure


def _with_telling_bars(drift: Drift, *, spread: float) -> tuple[Drift, bool]:
    """Return the drift without the bars that would dwarf all else, and whether some are left.

    Two steps say next to nothing of their process: Student's t is 12.7 with them.
    """
    widest = MAX_BAR * max(spread, *(abs(point.figure.value) for point in drift.reference))
    told = tuple(
        _without_bar(point) if (point.figure.half_width or 0.0) > widest else point for point in drift.reference
    )
    others = tuple(map(_without_bar, drift.others))
    return replace(drift, reference=told, others=others), any(point.figure.se is not None for point in told)


def _without_bar(point: TimedFigure) -> TimedFigure:
    return replace(point, figure=replace(point.figure, se=None))


def _name(reference: TrialSpec) -> str:
    names = [name for name in worth_naming([reference]) if name not in UNIMPORTANT]
    if LEVERS["micro_batch_size"].value(reference) is None:
        names.remove("micro_batch_size")
    return describe(reference, names=names)


def _places(points: Sequence[TimedFigure]) -> tuple[list[float], list[float]]:
    """Return minutes and per cent."""
    return [point.time_s / 60 for point in points], [100 * point.figure.value for point in points]


def _draw_points(axes: Axes, points: Sequence[TimedFigure]) -> Line2D:
    minutes, per_cent = _places(points)
    half_widths = [np.nan if (bar := point.figure.half_width) is None else 100 * bar for point in points]
    container = axes.errorbar(
        minutes,
        per_cent,
        yerr=half_widths,
        marker="o",
        linestyle="none",
        color=REFERENCE_COLOUR,
        capsize=4,
        elinewidth=1.1,
        zorder=4,
    )
    line = container.lines[0]
    assert line is not None
    line.set_label("reference trial")
    return line


def _draw_line(axes: Axes, drift: Drift, *, limit: float) -> list[Line2D | Patch]:
    """Draw the fitted line over all runs, with the band of its interval where it has one."""
    points = (*drift.reference, *drift.others)
    times_s = np.linspace(min(point.time_s for point in points), max(point.time_s for point in points), 61)
    minutes = times_s / 60
    line = [drift.line_at(float(time_s)) for time_s in times_s]
    middle = np.array([100 * one.value for one in line])
    style: dict[str, Any] = {"color": LINE_COLOUR, "linestyle": "--", "linewidth": 1.5}
    handles: list[Line2D | Patch] = [axes.plot(minutes, middle, zorder=3, label="fitted drift", **style)[0]]
    half_widths = [half_width for one in line if (half_width := one.half_width) is not None]
    if len(half_widths) < len(line):
        return handles
    band = 100 * np.array(half_widths)
    for edge in (middle - band, middle + band):
        axes.plot(minutes, edge, color=LINE_COLOUR, linestyle=":", linewidth=1.2, zorder=2)
    is_cut = bool((np.abs(middle) + band > limit).any())
    label = "its 95 % interval" + (", cut at the frame" if is_cut else "")
    handles.append(Line2D([], [], color=LINE_COLOUR, linestyle=":", linewidth=1.2, label=label))
    return handles


def _scale(axes: Axes, drift: Drift, *, spread_per_cent: float) -> float:
    """Let the axes span points and spread, and return the limit of y; a band wide for few runs is cut there."""
    points = (*drift.reference, *drift.others)
    reach = max(abs(point.figure.value) + (point.figure.half_width or 0.0) for point in points)
    limit = 1.15 * max(100 * reach, 1.3 * spread_per_cent) or 1.0
    axes.set_ylim(-limit, limit)
    axes.axhline(0, color="#555555", linewidth=0.8, zorder=1)
    last = max(point.time_s for point in points) / 60
    axes.set_xlim(-0.03 * last, 1.03 * last)
    return limit
