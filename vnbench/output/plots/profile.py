"""Figures of profiled steps: the memory of one along its stages, and of several at their peaks, by who made it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import significant
from vnbench.output.words.profiles import Cells, Profile
from vnbench.output.words.provenance import Provenance
from vnbench.units import BYTES_PER_UNIT, count, format_bytes, memory_unit

KEPT = "kept between steps"
"""The layer of what stays from step to step."""

KEPT_KINDS = ("parameters", "gradients", "optimizer state")


MIN_LABEL_SHARE = 0.075
"""Share of the longest bar from which on a part has room for its number."""


def stage_colours(number: int) -> list[Any]:
    """Return the colour of KEPT and those of so many stages, from the first to the last."""
    return ["#BBBBBB", *colormaps["viridis"](np.linspace(0.05, 0.95, number))]


def bytes_of(cells: Cells, stage: str) -> int:
    """Return the bytes that a stage made; of KEPT those of what stays from step to step, whichever stage made it."""
    return sum(
        size
        for (of, kind), size in cells.items()
        if (stage == KEPT and kind in KEPT_KINDS) or (of == stage and kind not in KEPT_KINDS)
    )


def profile_figure(profile: Profile, *, origin: Provenance) -> Figure:
    """Return live bytes against the changes of the running stage, a layer per stage that made them.

    One step is exact: it has no interval. The peak lies between two changes, so it is drawn as a line.
    """
    figure, axes = new_figure(
        title="Memory along one worst-case step",
        caption="Tensors whenever the running stage changes, by the stage that made them. The peak, "
        f"{format_bytes(profile.tracked_peak_bytes)}, comes in the {profile.peak_place}.",
        remarks=[f"{profile.title}."],
        origin=origin,
        trials="1 step, counted exactly",
    )
    made = [stage for stage in profile.stages if _layer(profile, stage).any()]
    unit = memory_unit(profile.tracked_peak_bytes)
    layers = [_layer(profile, stage) / BYTES_PER_UNIT[unit] for stage in (KEPT, *made)]
    peak_height = profile.tracked_peak_bytes / BYTES_PER_UNIT[unit]
    colours = stage_colours(len(made))
    places = np.arange(len(profile.timeline))
    axes.stackplot(places, *layers, colors=colours, linewidth=0.3, edgecolor="white")
    peak = axes.axhline(peak_height, color="black", linewidth=1, linestyle="--", label="peak, between two changes")
    axes.set_xlim(0, max(len(places) - 1, 1))
    axes.set_ylim(0, 1.15 * peak_height)
    _name_phases(axes, [phase for phase, _ in profile.timeline])
    axes.set_xlabel("place in the step (changes of the running stage)")
    axes.set_ylabel(f"memory of tensors ({unit})")
    handles = [Patch(facecolor=colour, label=name) for name, colour in zip([KEPT, *made], colours, strict=True)]
    legend_below(axes, handles=[*handles, peak])
    return figure


def stage_memory_figure(profiles: Sequence[Profile], *, origin: Provenance) -> Figure | None:
    """Return a bar per profile, its live bytes at the peak stacked by the stage that made them; None without any."""
    known = [profile for profile in profiles if profile.status == "ok"]
    if not known:
        return None
    specs = [profile.spec for profile in known]
    names = [name for name in worth_naming(specs) if name in varying(specs)]
    spec = specs[0]
    figure, axes = new_figure(
        title="Worst-case memory by stage",
        caption="Tensors at the peak of a training step, by the stage that made them. Counted, so exact.",
        remarks=[f"Step of {spec.model} on {spec.worst_case_height} x {spec.worst_case_width:,} px."],
        origin=origin,
        trials=count(len(known), "profiled step"),
    )
    stages = [KEPT, *dict.fromkeys(stage for profile in known for stage in profile.stages)]
    colours = stage_colours(len(stages) - 1)
    longest = max(profile.tracked_peak_bytes for profile in known)
    unit = memory_unit(longest)
    scale = BYTES_PER_UNIT[unit]
    for row, profile in enumerate(known):
        start = 0
        for stage, colour in zip(stages, colours, strict=True):
            size = bytes_of(profile.at_peak, stage)
            if not size:
                continue
            label = stage if stage not in axes.get_legend_handles_labels()[1] else None
            look: dict[str, Any] = {"height": 0.5, "edgecolor": "white", "linewidth": 0.5}
            axes.barh(row, size / scale, left=start / scale, color=colour, label=label, **look)
            if size > MIN_LABEL_SHARE * longest:
                ink = "white" if _is_dark(colour) else "black"
                number = significant(size / scale)
                axes.text((start + size / 2) / scale, row, number, ha="center", va="center", fontsize=7.5, color=ink)
            start += size
        name = describe(profile.spec, names=names) or profile.spec.model
        told = f"{name}: {format_bytes(profile.tracked_peak_bytes)}"
        axes.annotate(told, (0, row - 0.27), xytext=(2, 1), textcoords="offset points", va="bottom", fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(len(known) - 0.6, -0.75)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"memory at the peak ({unit})")
    legend_below(axes, num_columns=3)
    return figure


def _layer(profile: Profile, stage: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([bytes_of(cells, stage) for _, cells in profile.timeline], dtype=float)


def _name_phases(axes: Axes, phases: list[str]) -> None:
    """Write each phase above its stretch and draw a line where it ends."""
    start = 0
    for phase, group in groupby(phases):
        length = sum(1 for _ in group)
        if length >= 3:
            axes.text(
                start + length / 2,
                0.985,
                phase,
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="top",
                fontsize=8,
            )
        if start:
            axes.axvline(start, color="#555555", linewidth=0.6)
        start += length


def _is_dark(colour: Any) -> bool:
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
