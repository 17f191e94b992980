"""What one change of each lever does: time and memory over those of the configuration that it was changed in."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vnbench.analysis.comparison.side_by_side import SideBySide
from vnbench.analysis.comparison.sweep_answer import answer_of
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.answer import effect_label, is_too_wide
from vnbench.output.plots.looks import BLUE, ORANGE
from vnbench.output.plots.style import new_columns
from vnbench.output.words.levers import describe, worth_naming
from vnbench.output.words.provenance import Provenance
from vnbench.units import count

MAX_ROWS = 24
"""Changes that one figure has room for; those that change time most stay."""

ROOM = 1.25
"""Factor of room beside the outermost mark."""


def effects_figure(rows: Sequence[TrialSummary], *, sides: SideBySide, origin: Provenance) -> Figure | None:
    """Return the time and the memory after each change of one lever, as ratios; None where nothing was varied."""
    answer = answer_of(rows, sides)
    if answer is None or sides.centre is None or not answer.effects:
        return None
    effects = sorted(answer.effects, key=lambda one: one.time.value)
    if len(effects) > MAX_ROWS:
        effects = sorted(
            sorted(effects, key=lambda one: -abs(one.time.log.value))[:MAX_ROWS], key=lambda one: one.time.value
        )
    named = [name for name in worth_naming([row.spec for row in rows]) if name not in ("task", "corpus_id")]
    figure, (times, memory) = new_columns(
        title="What one change does",
        subtitle="Each row changes one lever; ratios are over the same configuration without the change. The centre: "
        f"{describe(sides.centre, names=named)}. Bars: 95 % interval; hollow: too few repeats for one.",
        origin=origin,
        trials=count(sum(row.num_processes for row in rows), "training trial"),
        ratios=(3, 2),
        num_rows=len(effects),
    )
    places = range(len(effects))
    for place, effect in zip(places, effects, strict=True):
        is_open = effect.time.interval is None or is_too_wide(effect.time)
        low, high = (effect.time.value,) * 2 if is_open or effect.time.interval is None else effect.time.interval
        times.plot([low, high], [place, place], color=BLUE, linewidth=2.2, solid_capstyle="butt")
        times.plot(
            effect.time.value, place, marker="o", color=BLUE, fillstyle="none" if is_open else "full", markersize=6
        )
        if effect.memory is not None:
            memory.plot(effect.memory, place, marker="D", color=ORANGE, markeredgecolor="#333333", markersize=6)
    times.set_yticks(places, [effect_label(one, centre=sides.centre) for one in effects], fontsize=8)
    times.set_ylim(len(effects) - 0.5, -0.5)
    ends = [end for one in effects for end in (one.time.interval or ()) if not is_too_wide(one.time)]
    _ratio_axis(times, [*ends, *(one.time.value for one in effects)], label="time (ratio)")
    _ratio_axis(memory, [one.memory for one in effects if one.memory is not None], label="peak memory (ratio)")
    return figure


def _ratio_axis(axes: Axes, values: Sequence[float], *, label: str) -> None:
    """Let an x axis span some ratios and 1, in equal factors, with a line at 1."""
    axes.set_xscale("log")
    axes.set_xlim(min([1.0, *values]) / ROOM, max([1.0, *values]) * ROOM)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1, color="#333333", linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
