"""Runs on cards along time: bars to the likely end, whiskers to where nine of ten end, the window as a line."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from vnbench.analysis.schedule import Schedule
from vnbench.output.numbers import time_unit
from vnbench.output.plot_style import new_figure
from vnbench.output.provenance import Provenance, count

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""From the palette of Okabe and Ito (2008); names stand in the bars, so that colour tells nothing alone."""

MIN_LABELLED_SHARE = 0.08
"""Share of the axis below which a bar has its name above it."""


def schedule_figure(
    schedule: Schedule, *, num_cards: int, window_s: float | None, origin: Provenance, rule: str
) -> Figure:
    """Return the bars of a schedule; it has at least one run."""
    ends: Sequence[float] = [one.late_end_s for one in schedule.placed] + ([window_s] if window_s else [])
    unit, unit_s = time_unit(max(ends))
    left_out = f" Left out: {', '.join(schedule.left_out)}." if schedule.left_out else ""
    figure, axes = new_figure(
        title=f"{count(len(schedule.placed), 'run')} on {count(num_cards, 'card')}",
        subtitle=f"Bars: likely start to likely end. Whiskers: ended by then in nine of ten cases. {rule}{left_out}",
        origin=origin,
        trials="planned, not measured",
    )
    for number, one in enumerate(schedule.placed):
        start, end, late = (seconds / unit_s for seconds in (one.start_s, one.end_s, one.late_end_s))
        axes.barh(
            one.card, end - start, left=start, height=0.5, color=COLOURS[number % len(COLOURS)], edgecolor="white"
        )
        axes.plot([end, late], [one.card, one.card], color="#222222", linewidth=1.4, marker="|", markersize=9)
        is_wide = end - start >= MIN_LABELLED_SHARE * max(ends) / unit_s
        axes.text(
            (start + end) / 2,
            one.card + (0 if is_wide else 0.36),
            one.name,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if is_wide else "#222222",
            fontweight="bold" if is_wide else "normal",
            clip_on=True,
        )
    if window_s is not None:
        axes.axvline(window_s / unit_s, color="#222222", linestyle="--", linewidth=1.2)
        axes.text(window_s / unit_s, num_cards - 0.45, " window", va="bottom", ha="left", fontsize=8)
    axes.set_yticks(range(num_cards), [f"card {number + 1}" for number in range(num_cards)])
    axes.set_ylim(num_cards - 0.3, -0.7)
    axes.set_xlim(0, 1.08 * max(ends) / unit_s)
    axes.set_xlabel(f"time from now, {unit}")
    axes.grid(visible=False, axis="y")
    return figure
