"""The figure of a history: each configuration against the level that it began with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vnbench.analysis.comparison.history import History, RowHistory
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.output.gate.words import change, named
from vnbench.output.history.table import summary
from vnbench.output.plots.looks import CYCLE
from vnbench.output.plots.style import legend_below, new_figure, new_panels, number_axis
from vnbench.output.words.provenance import Provenance
from vnbench.records.readings import METRICS, Metric

LOOKS = tuple({"color": look.colour, "marker": look.marker} for look in CYCLE)
STROKES = ("-", "--", "-.")
"""Tell lines of one look apart."""


def history_figure(history: History, *, origin: Provenance, trials: str) -> Figure | None:
    """Return the change of each configuration in per cent against the revisions; None where nothing can be drawn.

    A panel shows the times, and one more each metric that changed.
    """
    drawn = [row for row in history.rows if row.metric != "status" and _level(row, history)]
    changed = {found.metric for found in history.changes}
    metrics: list[Metric] = [
        metric
        for metric in METRICS
        if (metric == "time" or metric in changed) and any(row.metric == metric for row in drawn)
    ]
    if not metrics:
        return None
    drawn = [row for row in drawn if row.metric in metrics]
    caption = f"{summary(history)} Zero: a line's level before its first change. Bands: 95 % interval over processes."
    first, last = (history.revisions[place].name for place in (0, -1))
    told: dict[str, Any] = {
        "title": "History of revisions",
        "caption": caption + (" Dotted: a change." if changed else ""),
        "origin": origin,
        "trials": trials,
        "remarks": [f"Revision 1 is {first}, {len(history.revisions)} is {last}."],
    }
    if len(metrics) == 1:
        figure, one = new_figure(**told)
        panels: Sequence[Axes] = [one]
    else:
        figure, panels = new_panels(**told, ratios=[1.0] * len(metrics))
    names = named({row.row: row.spec for row in drawn})
    strokes = [look | {"linestyle": stroke} for stroke in STROKES for look in LOOKS]
    looks = dict(zip(dict.fromkeys(row.row for row in drawn), cycle(strokes), strict=False))
    handles: dict[str, Any] = {}
    for axes, metric in zip(panels, metrics, strict=True):
        for row in drawn:
            if row.metric == metric:
                handles.setdefault(row.row, _draw(axes, row, history, label=names[row.row], look=looks[row.row]))
        _mark(axes, history, metric)
        axes.set_ylabel(f"change of {metric} (%)")
        number_axis(axes, range(1, len(history.revisions) + 1), scale="linear")
    panels[-1].set_xlabel("revision, the oldest first")
    legend_below(panels[-1], handles=list(handles.values()))
    return figure


def _level(row: RowHistory, history: History) -> float:
    """Return the geometric mean of a row's figures before its first change; 0 where a figure is 0 or there is none."""
    first = min(
        (
            found.at
            for found in history.changes
            if found.metric == row.metric and any(one.row == row.row for one in found.rows)
        ),
        default=len(row.figures),
    )
    before = [figure for figure in row.figures[:first] if figure is not None]
    return math.exp(float(np.mean(np.log(before)))) if before and min(before) > 0 else 0.0


def _draw(axes: Axes, row: RowHistory, history: History, *, label: str, look: dict[str, Any]) -> Line2D:
    level = _level(row, history)
    figures = np.array([math.nan if figure is None else figure for figure in row.figures])
    places = np.arange(1, len(figures) + 1)
    (line,) = axes.plot(places, 100 * (figures / level - 1), markersize=3.5, linewidth=1, label=label, **look)
    widths = np.array(list(_half_widths(row, history)))
    low, high = (100 * (figures * np.exp(sign * widths) / level - 1) for sign in (-1, 1))
    axes.fill_between(places, low, high, color=look["color"], alpha=0.12, linewidth=0, zorder=0)
    return line


def _half_widths(row: RowHistory, history: History) -> Iterable[float]:
    """Yield the half-width of the logarithm of each figure; NaN where its processes tell none."""
    for revision in history.revisions:
        one = revision.side.configurations.get(row.row)
        found = None if one is None else one.figures.get(row.metric)
        if found is None or not found.log_variance or found.dof < 2:  # with one degree of freedom t is 12.7
            yield math.nan
        else:
            se = math.sqrt(found.log_variance / found.num_processes)
            yield Estimate(value=0.0, se=se, dof=found.dof).half_width or math.nan


def _mark(axes: Axes, history: History, metric: Metric) -> None:
    """Mark where something changed, and by how much."""
    sizes: dict[int, list[str]] = {}
    for found in history.changes:
        if found.metric == metric:
            whose = (
                "all" if found.is_common else f"{len(found.rows)} of {sum(r.metric == metric for r in history.rows)}"
            )
            sizes.setdefault(found.at, []).append(f"{change(found.ratio)} ({whose})")
    axes.margins(y=0.25)
    for at, texts in sizes.items():
        axes.axvline(at + 0.5, color="#555555", linestyle=":", linewidth=1.2, zorder=1)
        is_right = at > 0.6 * len(history.revisions)
        axes.annotate(
            "\n".join([f"{at + 1}: {history.revisions[at].name}", *texts]),
            (at + 0.5, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-3 if is_right else 3, -2),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="top",
            fontsize=7.5,
        )
