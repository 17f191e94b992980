"""Runs along time, one per row with its card: bars to the likely end, whiskers to the late one, the window a line."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from matplotlib.figure import Figure

from vnbench.analysis.planning.schedule import Schedule
from vnbench.output.plots.looks import CYCLE
from vnbench.output.plots.style import HATCH, HATCHED, legend_below, new_columns
from vnbench.output.words.numbers import time_unit
from vnbench.output.words.provenance import Provenance
from vnbench.units import count, format_duration

MAX_ROWS = 20
"""Runs that a figure can name."""

ROWS_PER_RUN = 1.4
"""Rows of height for each run, whose label takes two lines."""

MAX_NAME_CHARACTERS = 40


def schedule_figure(
    schedule: Schedule,
    *,
    num_cards: int,
    window_s: float | None,
    origin: Provenance,
    rule: str,
    forecast: Collection[str] = (),
) -> Figure:
    """Return the bars of a schedule; it has at least one run. Those of the names in ``forecast`` are hatched."""
    ends: Sequence[float] = [one.late_end_s for one in schedule.placed] + ([window_s] if window_s else [])
    unit, unit_s = time_unit(max(ends))
    left_out = f"Left out: {plain(', '.join(schedule.left_out))}." if schedule.left_out else ""
    left_out += (
        f" The first {MAX_ROWS} of {count(len(schedule.placed), 'run')}." if len(schedule.placed) > MAX_ROWS else ""
    )
    shown = schedule.placed[:MAX_ROWS]
    figure, (axes,) = new_columns(
        title=f"{count(len(schedule.placed), 'run')} on {count(num_cards, 'card')}",
        caption="Bars: likely start to likely end. Whiskers: nine runs of ten have ended by then."
        f"{f' {HATCHED}.' if forecast else ''}",
        remarks=[rule, left_out],
        origin=origin,
        trials="planned, not measured",
        ratios=(1,),
        num_rows=round(ROWS_PER_RUN * len(shown)),
    )
    for row, one in enumerate(shown):
        start, end, late = (seconds / unit_s for seconds in (one.start_s, one.end_s, one.late_end_s))
        colour = CYCLE[one.card % len(CYCLE)].colour  # the number of the card stands beside the run as well
        hatch = HATCH if one.name in forecast else ""
        axes.barh(row, end - start, left=start, height=0.6, color=colour, edgecolor="white", hatch=hatch)
        axes.plot([end, late], [row, row], color="#222222", linewidth=1.4, marker="|", markersize=9)
    rows = len(shown)
    if window_s is not None:
        axes.axvline(
            window_s / unit_s,
            color="#222222",
            linestyle="--",
            linewidth=1.2,
            label=f"window, {format_duration(window_s)}",
        )
        legend_below(axes)
    axes.set_yticks(range(rows), [f"{plain(one.name)}\non card {one.card + 1}" for one in shown], fontsize=8.5)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, 1.08 * max(ends) / unit_s)
    axes.set_xlabel(f"time from now ({unit})")
    axes.grid(visible=False, axis="y")
    return figure


def plain(name: str) -> str:
    """Return a name that is drawn as it is, and not read as a formula; a long one is cut."""
    short = name if len(name) <= MAX_NAME_CHARACTERS else name[: MAX_NAME_CHARACTERS - 3] + "..."
    return short.replace("$", r"\$")
