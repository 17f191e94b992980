"""The lever waterfall: from the plainest configuration to the recommended one, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure

from vnbench.analysis.planning.capacity import Asked
from vnbench.analysis.planning.lever_path import LeverStep
from vnbench.output.plots.capacity_plan import caption_of, finish_bars, run_line
from vnbench.output.plots.looks import GREEN, SKY, VERMILLION
from vnbench.output.plots.style import hatched, new_columns
from vnbench.output.words.capacity_plan import memory_told, named
from vnbench.output.words.numbers import time_unit
from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.trial_spec import LEVERS
from vnbench.units import format_duration

WITH_TWO_ENDS = 2.9
"""End of the axis over the longest time, where two ends of memory stand beside it."""

SAVED, LOST, TOTAL = GREEN, VERMILLION, SKY
"""Hatches tell them apart as well."""


def waterfall_figure(path: Sequence[LeverStep], *, asked: Asked, origin: Provenance) -> Figure | None:
    """Return the median wall clock after each change of a lever; None where nothing is changed, or never ends."""
    if len(path) < 2 or not all(math.isfinite(step.run.finish.p90) for step in path):
        return None
    longest_s = max(step.run.finish.p90 for step in path)
    unit, unit_s = time_unit(longest_s)
    labels = ["plainest", *(_label(step) for step in path[1:]), "recommended"]
    figure, (axes,) = new_columns(
        title="From the plainest to the recommended",
        caption="Each row makes the change that then saves most. Whiskers: p10 to p90 of the whole time; beside: "
        f"worst-case memory.{caption_of(step.run for step in path)}",
        origin=origin,
        trials=origin.planned_from,
        remarks=[
            run_line(asked),
            f"Recommended: {named(path[-1].run)}.",
            "In another order the levers share the saving otherwise.",
        ],
        ratios=(1,),
        num_rows=len(labels),
    )
    ends = [step.run.finish.p50 / unit_s for step in path]
    widths = [ends[0], *(abs(after - before) for before, after in pairwise(ends)), ends[-1]]
    starts = [0.0, *(min(before, after) for before, after in pairwise(ends)), 0.0]
    for place, (width, start) in enumerate(zip(widths, starts, strict=True)):
        is_total = place in (0, len(path))
        is_saving = not is_total and ends[place] <= ends[place - 1]
        axes.barh(
            place,
            width,
            left=start,
            height=0.62,
            color=TOTAL if is_total else SAVED if is_saving else LOST,
            hatch="" if is_total else "///" if is_saving else "xxx",
            edgecolor="white",
        )
        finish = path[min(place, len(path) - 1)].run.finish
        axes.errorbar(
            finish.p50 / unit_s,
            place,
            xerr=finish_bars([finish], unit_s=unit_s),
            color="#333333",
            capsize=3,
            elinewidth=0.9,
        )
        if path[min(place, len(path) - 1)].run.evidence == "forecast":
            axes.barh(
                place,
                (finish.p90 - finish.p10) / unit_s,
                left=finish.p10 / unit_s,
                height=0.34,
                zorder=2,
                **hatched("#333333"),
            )
        axes.annotate(
            _told(path, place),
            (max(start + width, finish.p90 / unit_s), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    # With room for what stands beside the longest: more for the two ends of a forecast's memory.
    is_forecast = any(step.run.evidence == "forecast" for step in path)
    axes.set_xlim(0, (WITH_TWO_ENDS if is_forecast else 1.85) * longest_s / unit_s)
    axes.set_xlabel(f"wall clock ({unit})")
    return figure


def _label(step: LeverStep) -> str:
    return "\n".join(
        f"{LEVERS[name].header.replace('-' + chr(10), '').replace(chr(10), ' ')} {before} \N{RIGHTWARDS ARROW} {after}"
        for name, (before, after) in step.changes.items()
    )


def _told(path: Sequence[LeverStep], place: int) -> str:
    """Return what stands beside a bar: the time of a total, the share that a change saves; and the memory then."""
    run = path[min(place, len(path) - 1)].run
    told = memory_told(run)
    memory = "" if told is None else f", {told}"
    if place in (0, len(path)):
        return format_duration(run.finish.p50) + memory
    before = path[place - 1].run.finish.p50
    change = round(100 * (run.finish.p50 / before - 1), 1)
    told = f"{change:+.1f} %" if change else "no change"
    return told.replace("-", "\N{MINUS SIGN}") + memory
