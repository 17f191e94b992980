"""The figure of floors_report.py: the time of a step and its two floors, one row per configuration."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from floors_rows import Row, configuration, shared
from matplotlib.figure import Figure

from vnbench.output.plots.style import decades, legend_below, new_columns
from vnbench.output.words.provenance import Provenance
from vnbench.units import count

MAX_ROWS = 24
"""Maximum number of configurations in a figure, the fastest ones; the table has all."""

LABEL_COLUMNS = 32
"""Characters per line of a configuration's label."""

LINES = 2
"""Rows of height for each configuration, whose label takes two lines."""

POINT: dict[str, Any] = {"color": "#222222", "linestyle": "none"}
BAR: dict[str, Any] = {"color": "#D55E00", "linestyle": "none", "marker": "|", "markersize": 11, "markeredgewidth": 2.5}
DIAMOND: dict[str, Any] = {"color": "#0072B2", "linestyle": "none", "marker": "d", "markersize": 6}


def figure_of(rows: Sequence[Row], *, origin: Provenance) -> Figure:
    shown = list(rows)[:MAX_ROWS]
    left_out = f"The {MAX_ROWS} fastest of {len(rows)}." if len(shown) < len(rows) else ""
    figure, (axes,) = new_columns(
        title="A training step beside the floors of its machine",
        caption="Steps on the largest canvas measured, ordered by valid pixels per second. Whiskers: 95 % interval.",
        remarks=[f"{shared(rows)}.", left_out],
        origin=origin,
        trials=count(sum(row.num_processes for row in rows), "compute trial"),
        ratios=(1,),
        num_rows=LINES * len(shown),
    )
    places = range(len(shown))
    steps_ms = [1e3 * row.step_time.value for row in shown]
    # Without an interval there is no whisker. Whiskers stay above zero, because the axis is logarithmic.
    whiskers_ms = [1e3 * min(row.step_time.half_width or 0.0, 0.95 * row.step_time.value) for row in shown]
    axes.hlines(places, [1e3 * row.floor_s for row in shown], steps_ms, color="#BBBBBB", linewidth=2, zorder=1)
    axes.errorbar(steps_ms, places, xerr=whiskers_ms, **POINT, marker="o", markersize=5, capsize=3, label="step")
    arithmetic_ms = [1e3 * row.arithmetic_s for row in shown]
    axes.plot(arithmetic_ms, places, **BAR, label="arithmetic")
    counted = [(1e3 * row.traffic_s, place) for place, row in enumerate(shown) if row.traffic_s is not None]
    if counted:
        axes.plot(*zip(*counted, strict=True), **DIAMOND, label="memory traffic")
    labels = [
        "\n".join(textwrap.wrap(configuration(row, rows), LABEL_COLUMNS, break_on_hyphens=False)) for row in shown
    ]
    axes.set_yticks(places, labels, fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    decades(axes.xaxis)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("time per step (ms)")
    axes.grid(visible=False, axis="y")
    legend_below(axes, num_columns=2)
    return figure
