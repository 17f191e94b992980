"""The figure of a history: each configuration against the level that it began with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vnbench.analysis.comparison.history import History, RowHistory
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.output.gate.words import change, named
from vnbench.output.history.table import summary
from vnbench.output.plots.looks import CYCLE
from vnbench.output.plots.style import legend_below, new_figure, new_panels
from vnbench.output.words.provenance import Provenance
from vnbench.records.readings import METRICS, Metric

MAX_NAMES = 16
"""Revisions that are named under the axis; of more, some are."""


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
    caption = (
        f"{summary(history)} Zero: a line's level before its first change. Dotted: a change, and its size. Bands: 95 % "
        "interval over the processes of a revision."
    )
    if len(metrics) == 1:
        figure, one = new_figure(title="History of revisions", caption=caption, origin=origin, trials=trials)
        panels: Sequence[Axes] = [one]
    else:
        figure, panels = new_panels(
            title="History of revisions", caption=caption, origin=origin, trials=trials, ratios=[1.0] * len(metrics)
        )
    names = named({row.row: row.spec for row in drawn})
    looks = dict(zip(dict.fromkeys(row.row for row in drawn), cycle(CYCLE), strict=False))
    for axes, metric in zip(panels, metrics, strict=True):
        for row in drawn:
            if row.metric == metric:
                _draw(
                    axes, row, history, label=names[row.row], colour=looks[row.row].colour, marker=looks[row.row].marker
                )
        _mark(axes, history, metric)
        axes.set_ylabel(f"change of {metric} (%)")
    _name_revisions(panels[-1], [revision.name for revision in history.revisions])
    panels[-1].set_xlabel("revision")
    legend = panels[0].get_legend_handles_labels()[0]
    legend_below(panels[-1], handles=legend)
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


def _draw(axes: Axes, row: RowHistory, history: History, *, label: str, colour: str, marker: str) -> None:
    level = _level(row, history)
    figures = np.array([math.nan if figure is None else figure for figure in row.figures])
    places = np.arange(len(figures))
    axes.plot(
        places, 100 * (figures / level - 1), color=colour, marker=marker, markersize=3.5, linewidth=1, label=label
    )
    widths = np.array(list(_half_widths(row, history)))
    low, high = (100 * (figures * np.exp(sign * widths) / level - 1) for sign in (-1, 1))
    axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0, zorder=0)


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
        axes.axvline(at - 0.5, color="#555555", linestyle=":", linewidth=1.2, zorder=1)
        is_right = at > 0.6 * len(history.revisions)
        axes.annotate(
            "\n".join([history.revisions[at].name, *texts]),
            (at - 0.5, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-3 if is_right else 3, -2),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="top",
            fontsize=7.5,
        )


def _name_revisions(axes: Axes, names: Sequence[str]) -> None:
    step = -(-len(names) // MAX_NAMES)
    axes.set_xticks(range(0, len(names), step), [name[:7] for name in names[::step]], rotation=90, fontsize=7)
