"""Where the memory of a worst-case step is at its peak, stage by stage, of some configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vnbench.output.plots.profile import KEPT, bytes_of, stage_colours, unit_of
from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import significant
from vnbench.output.words.profiles import Profile
from vnbench.output.words.provenance import Provenance
from vnbench.units import BYTES_PER_UNIT, count, format_bytes

MIN_LABEL_SHARE = 0.075
"""Share of the longest bar from which on a part has room for its number."""


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
    unit = unit_of(longest)
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


def _is_dark(colour: Any) -> bool:
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
