"""The figure of a step's memory along its stages, stacked by where it was made."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.profiles import Cells, Profile
from vnbench.output.words.provenance import Provenance
from vnbench.units import BYTES_PER_UNIT, format_bytes

KEPT = "kept between steps"
"""The layer of what stays from step to step."""

KEPT_KINDS = ("parameters", "gradients", "optimizer state")


def stage_colours(number: int) -> list[Any]:
    """Return the colour of KEPT and those of so many stages, from the first to the last."""
    return ["#BBBBBB", *colormaps["viridis"](np.linspace(0.05, 0.95, number))]


def unit_of(peak_bytes: int) -> str:
    """Return the unit in which a peak is drawn."""
    return "GiB" if peak_bytes >= BYTES_PER_UNIT["GiB"] else "MiB"


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
    unit = unit_of(profile.tracked_peak_bytes)
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
