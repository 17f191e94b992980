"""What one change of each lever does: time and memory over those of the configuration that it was changed in."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vnbench.analysis.comparison.lever_differences import differing_levers
from vnbench.analysis.comparison.sweep_answer import LeverEffect, SweepAnswer
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.answer import effect_label, is_too_wide
from vnbench.output.plots.looks import BLUE, ORANGE
from vnbench.output.plots.style import new_columns
from vnbench.output.words.levers import describe, worth_naming
from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec
from vnbench.units import count

MAX_ROWS = 24
"""Changes that one figure has room for; those that change time most stay."""

LABEL_COLUMNS = 26
"""Characters of a change before its label breaks."""

FINE_TIMES, FINE_MEMORY = 4.0, 2.0
"""Factor from the smallest ratio of a panel to the largest above which numbers at half steps run into each other."""

ROOM = 1.25
"""Factor of room beside the outermost mark."""


TRAINED, COMPUTED = "o", "s"
"""Markers of changes that were seen in training, and in computing alone."""


def effects_figure(
    rows: Sequence[TrialSummary],
    *,
    answer: SweepAnswer | None,
    centre: TrialSpec | None,
    computing: Sequence[LeverEffect] = (),
    num_compute_trials: int = 0,
    origin: Provenance,
) -> Figure | None:
    """Return the time and the memory after each change of one lever, as ratios; None where nothing was varied.

    What training trials do not tell of a change, compute trials may: ``computing`` holds what so many of them say.
    """
    trained = answer.effects if answer else ()
    told = {_change(one) for one in trained}
    effects = [*trained, *(one for one in computing if _change(one) not in told)]
    if not effects:
        return None
    centre = centre or effects[-1].base
    effects.sort(key=lambda one: -abs(one.time.log.value))
    effects = sorted(effects[:MAX_ROWS], key=lambda one: one.time.value)
    has_computed = any(one.spec.kind == "compute" for one in effects)
    numbers = [(sum(row.num_processes for row in rows), "training trial")]
    numbers += [(num_compute_trials, "compute trial")] if has_computed else []
    named = [
        name
        for name in worth_naming([row.spec for row in rows] or [centre])
        if name not in ("task", "corpus_id", "micro_batch_size" if centre.accumulation_steps == 1 else "")
    ]
    squares = "; squares: computing alone, without a loader" if has_computed else ""
    peaks = [one.memory for one in effects if one.memory is not None]
    figure, (times, *others) = new_columns(
        title="What one change does",
        caption="Each row changes one lever of the centre. Bars: 95 % interval; hollow: too few repeats for one"
        f"{squares}.",
        origin=origin,
        trials=", ".join(count(number, noun) for number, noun in numbers if number),
        remarks=[f"Centre: {describe(centre, names=named)}."],
        ratios=(3, 2) if peaks else (1,),
        num_rows=len(effects),
    )
    places = range(len(effects))
    for place, effect in zip(places, effects, strict=True):
        is_open = effect.time.interval is None or is_too_wide(effect.time)
        low, high = (effect.time.value,) * 2 if is_open or effect.time.interval is None else effect.time.interval
        times.plot([low, high], [place, place], color=BLUE, linewidth=2.2, solid_capstyle="butt")
        times.plot(
            effect.time.value,
            place,
            marker=COMPUTED if effect.spec.kind == "compute" else TRAINED,
            color=BLUE,
            fillstyle="none" if is_open else "full",
            markersize=6,
        )
    times.set_yticks(places, [_label(one, centre=centre) for one in effects], fontsize=8.5)
    times.set_ylim(len(effects) - 0.5, -0.5)
    ends = [end for one in effects for end in (one.time.interval or ()) if not is_too_wide(one.time)]
    _ratio_axis(
        times, [*ends, *(one.time.value for one in effects)], label="time (ratio, < 1: faster)", fine=FINE_TIMES
    )
    for memory in others:
        known = [place for place, one in zip(places, effects, strict=True) if one.memory is not None]
        memory.plot(peaks, known, "D", color=ORANGE, markeredgecolor="#333333", markersize=6)
        memory.tick_params(axis="y", length=0)
        _ratio_axis(memory, peaks, label="peak memory (ratio)", fine=FINE_MEMORY)
    return figure


def _change(effect: LeverEffect) -> tuple[str, object]:
    return effect.lever, getattr(effect.spec, effect.lever)


def _label(effect: LeverEffect, *, centre: TrialSpec) -> str:
    if effect.spec.kind != "compute":
        return textwrap.fill(effect_label(effect, centre=centre), LABEL_COLUMNS, break_on_hyphens=False)
    # A compute trial has no loader whose levers could differ.
    elsewhere = describe(effect.base, names=[name for name in differing_levers(effect.base, centre) if name in LEVERS])
    label = effect_label(effect, centre=effect.base) + (f" at {elsewhere}" if elsewhere else "")
    return textwrap.fill(label, LABEL_COLUMNS, break_on_hyphens=False)


def _ratio_axis(axes: Axes, values: Sequence[float], *, label: str, fine: float) -> None:
    """Let an x axis span some ratios and 1, in equal factors, with a line at 1."""
    low, high = min([1.0, *values]), max([1.0, *values])
    axes.set_xscale("log")
    axes.set_xlim(low / ROOM, high * ROOM)
    subs = (1, 1.5, 2, 3, 5, 7) if high < fine * low else (1, 2, 5)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1, color="#333333", linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label, fontsize=8.5)
