"""The figure of floors_report.py: the time of a step beside its two floors, a line per configuration."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from floors_rows import Row, configuration, shared
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vnbench.output.plot_style import legend_below, new_figure
from vnbench.output.provenance import Provenance, count

MAX_ROWS = 24
"""Configurations that one figure shows, the fastest; the table has all."""

LABEL_COLUMNS = 36
"""Characters of a configuration before its label breaks."""

STEP_COLOUR, ARITHMETIC_COLOUR, TRAFFIC_COLOUR = "#222222", "#D55E00", "#0072B2"


def figure_of(rows: Sequence[Row], *, origin: Provenance) -> Figure:
    shown = list(rows)[:MAX_ROWS]
    left_out = f" The {MAX_ROWS} fastest of {len(rows)}." if len(shown) < len(rows) else ""
    figure, axes = new_figure(
        title="A training step beside the floors of its machine",
        subtitle=f"{shared(rows)}, on the largest canvas measured, ordered by valid pixels per second. Whiskers: 95 % "
        f"intervals.{left_out}",
        origin=origin,
        trials=count(sum(row.num_processes for row in rows), "compute trial"),
    )
    for place, row in enumerate(shown):
        floor_s = max(row.arithmetic_s, row.traffic_s or 0.0)
        axes.plot([1e3 * floor_s, 1e3 * row.step_time.value], [place, place], color="#BBBBBB", linewidth=2, zorder=1)
        half_width = row.step_time.half_width
        axes.errorbar(
            1e3 * row.step_time.value,
            place,
            xerr=None if half_width is None else 1e3 * min(half_width, 0.95 * row.step_time.value),
            marker="o",
            markersize=5,
            capsize=3,
            color=STEP_COLOUR,
            linestyle="none",
            label="step" if place == 0 else None,
        )
        axes.plot(
            1e3 * row.arithmetic_s,
            place,
            marker="|",
            markersize=11,
            markeredgewidth=2.5,
            color=ARITHMETIC_COLOUR,
            linestyle="none",
            label="arithmetic" if place == 0 else None,
        )
        if row.traffic_s is not None:
            axes.plot(
                1e3 * row.traffic_s,
                place,
                marker="d",
                markersize=6,
                color=TRAFFIC_COLOUR,
                linestyle="none",
                label="memory traffic" if place == 0 else None,
            )
    labels = ["\n".join(textwrap.wrap(configuration(row, rows), LABEL_COLUMNS)) for row in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("time per step (ms)")
    axes.grid(visible=False, axis="y")
    legend_below(axes, num_columns=3)
    return figure
