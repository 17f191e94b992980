"""The lever waterfall: from the plainest configuration to the recommended one, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure

from vnbench.analysis.planning.capacity import Asked
from vnbench.analysis.planning.lever_path import LeverStep
from vnbench.output.plots.looks import GREEN, SKY, VERMILLION
from vnbench.output.plots.plan import finish_bars, run_line
from vnbench.output.plots.style import new_figure
from vnbench.output.words.numbers import time_unit
from vnbench.output.words.plan import named
from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.trial_spec import LEVERS
from vnbench.units import format_bytes, format_duration

SAVED, LOST, TOTAL = GREEN, VERMILLION, SKY
"""Hatches tell them apart as well."""


def waterfall_figure(path: Sequence[LeverStep], *, asked: Asked, origin: Provenance) -> Figure | None:
    """Return the median wall clock after each change of a lever; None where nothing is changed, or never ends."""
    if len(path) < 2 or not all(math.isfinite(step.run.finish.p90) for step in path):
        return None
    unit, unit_s = time_unit(max(step.run.finish.p90 for step in path))
    figure, axes = new_figure(
        title="What each lever buys",
        subtitle=f"{run_line(asked)}: from {named(path[0].run)} to {named(path[-1].run)}, each time the change that "
        "saves most; in another order the same levers share the saving otherwise. Whiskers: p10 to p90 of the whole "
        "time.",
        origin=origin,
        trials="planned from measured trials",
    )
    labels = ["plainest", *(_label(step) for step in path[1:]), "recommended"]
    ends = [step.run.finish.p50 / unit_s for step in path]
    heights = [ends[0], *(abs(after - before) for before, after in pairwise(ends)), ends[-1]]
    bottoms = [0.0, *(min(before, after) for before, after in pairwise(ends)), 0.0]
    for place, (height, bottom) in enumerate(zip(heights, bottoms, strict=True)):
        is_total = place in (0, len(path))
        is_saving = not is_total and ends[place] <= ends[place - 1]
        axes.bar(
            place,
            height,
            bottom=bottom,
            width=0.62,
            color=TOTAL if is_total else SAVED if is_saving else LOST,
            hatch="" if is_total else "///" if is_saving else "xxx",
            edgecolor="white",
        )
        step = path[min(place, len(path) - 1)]
        finish = step.run.finish
        axes.errorbar(
            place,
            finish.p50 / unit_s,
            yerr=finish_bars([finish], unit_s=unit_s),
            color="#333333",
            capsize=3,
            elinewidth=0.9,
        )
        axes.annotate(
            _told(path, place),
            (place, max(bottom + height, finish.p90 / unit_s)),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7.5,
        )
    axes.set_xticks(range(len(labels)), labels, fontsize=7.5)
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, 1.22 * max(step.run.finish.p90 for step in path) / unit_s)
    axes.set_ylabel(f"wall clock, {unit}")
    return figure


def _label(step: LeverStep) -> str:
    return "\n".join(
        f"{LEVERS[name].header.replace('-' + chr(10), '').replace(chr(10), ' ')}\n{before} \N{RIGHTWARDS ARROW} {after}"
        for name, (before, after) in step.changes.items()
    )


def _told(path: Sequence[LeverStep], place: int) -> str:
    """Return what stands above a bar: the time of a total, the share that a change saves; and the memory then."""
    run = path[min(place, len(path) - 1)].run
    memory = "" if run.need_bytes is None else f"\n{format_bytes(run.need_bytes)}"
    if place in (0, len(path)):
        return format_duration(run.finish.p50) + memory
    before = path[place - 1].run.finish.p50
    change = 100 * (run.finish.p50 / before - 1)
    return f"{change:+.1f} %".replace("-", "\N{MINUS SIGN}") + memory
