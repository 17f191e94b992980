"""The figure of worst-case peak memory against micro-batch, with the capacity and the families that did not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vnbench.analysis.trials.memory_law import CARD_SIZES_GIB
from vnbench.analysis.trials.summary import MemorySummary
from vnbench.output.plots.series import Point, Series, draw_series, series_over, unless_named
from vnbench.output.plots.style import legend_below, new_figure, value_axis
from vnbench.output.words.levers import centre_of
from vnbench.output.words.provenance import Provenance
from vnbench.units import BYTES_PER_UNIT, count, format_bytes, memory_unit

NEAR = 3.0
"""The capacity is drawn where it is at most this many times the largest peak: further off it would flatten the data."""

FAILURE_MARKS: Mapping[str, tuple[str, str]] = {
    "oom": ("x", "out of memory"),
    "skipped": ("+", "skipped: a smaller one ran out of memory"),
    "other": ("1", "did not finish"),
}
"""Cross and meaning of a family without a peak, by status."""

LABEL_SHARE = 0.08
"""Share of the axis that the name of a card takes."""

SAME_CARD = 0.04
"""How far the memory that a driver tells of lies from the size that a card is sold by."""

_IGNORED = ("batch_size", "micro_batch_size", "sampler", "num_workers", "corpus_id")


def peak_memory_figure(families: Sequence[MemorySummary], *, origin: Provenance) -> Figure | None:
    """Return worst-case peak memory against examples per pass; None where no family has a peak."""
    peaks = [family.peak_bytes for family in families if family.peak_bytes is not None]
    if not peaks:
        return None
    unit = memory_unit(max(peaks))
    unit_bytes = BYTES_PER_UNIT[unit]
    measured = [peak / unit_bytes for peak in peaks]
    specs = [family.spec for family in families]
    centre = centre_of(specs)
    # Families without a peak are points as well, so that their marks take the colour and place of their line.
    points = [(family.spec, _point(family, unit_bytes=unit_bytes)) for family in families]
    drawn, num_left_out = series_over(points, centre=centre, ignored=_IGNORED)
    statuses = {point.status for one in drawn for point in one.points} - {"ok"}
    capacity_bytes = max((family.capacity_bytes for family in families if family.capacity_bytes), default=None)
    limits = [family.spec.memory_limit_bytes for family in families if family.status == "oom"]
    is_limited = bool(limits) and None not in limits
    if is_limited:
        # Those that ran out did so under a limit of their own, and not at the end of the device's memory.
        capacity_bytes = max(limit for limit in limits if limit is not None)
    capacity = None if capacity_bytes is None else capacity_bytes / unit_bytes
    shown_capacity = capacity if capacity is not None and (statuses or capacity <= NEAR * max(measured)) else None
    remarks = [
        unless_named(centre, ignored=_IGNORED, specs=specs),
        _what_is_counted(families, origin=origin),
        f"Capacity: {format_bytes(capacity_bytes)}, far above." if capacity_bytes and shown_capacity is None else "",
        "Capacity unknown: crosses stand above the largest peak." if statuses and capacity is None else "",
        f"Not drawn: {count(num_left_out, 'worst-case trial')}." if num_left_out else "",
    ]
    figure, axes = new_figure(
        title="Worst-case peak memory",
        caption=f"One training step on images of {_sizes(families)}. Each point is one reading, so it has no bar.",
        remarks=remarks,
        origin=origin,
        trials=count(sum(len(one.points) for one in drawn), "worst-case trial"),
    )
    drawn = draw_series(axes, drawn, scale="log2")
    handles = list(axes.get_legend_handles_labels()[0])
    if not origin.is_cpu:
        up_to = 1.1 * max([*measured, shown_capacity or 0.0])
        _draw_cards(axes, up_to=up_to, capacity=shown_capacity, per_gib=BYTES_PER_UNIT["GiB"] / unit_bytes)
    mark_height = shown_capacity or 1.15 * max(measured)
    if shown_capacity is not None:
        handles.append(
            axes.axhline(
                shown_capacity,
                color="black",
                linestyle="--",
                linewidth=1.2,
                zorder=1,
                label=f"{'memory limit' if is_limited else 'capacity'} {format_bytes(shown_capacity * unit_bytes)}",
            )
        )
    handles += _mark_failures(axes, drawn, height=mark_height)
    # From zero: the distance to the capacity is what a reader measures.
    value_axis(axes, [0.0], [*measured, mark_height if statuses or shown_capacity else 0.0])
    axes.set_xlabel("micro-batch (largest images per pass)")
    axes.set_ylabel(f"peak memory ({unit})")
    legend_below(axes, handles=handles)
    return figure


def _draw_cards(axes: Axes, *, up_to: float, capacity: float | None, per_gib: float) -> None:
    """Draw a line at the memory of each common card, but for that which is drawn as the capacity.

    ``per_gib`` is a GiB in the unit of the axis.
    """
    sizes = [
        size
        for size in CARD_SIZES_GIB
        if size * per_gib <= up_to and (capacity is None or abs(size * per_gib / capacity - 1) >= SAME_CARD)
    ]
    names: list[str] = []
    for size, larger in zip(sizes, [*sizes[1:], math.inf], strict=True):
        axes.axhline(size * per_gib, color="#999999", linestyle=":", linewidth=1.0, zorder=1)
        names.append(f"{size}")
        if size * per_gib + LABEL_SHARE * up_to > larger * per_gib:
            continue  # Named with the next, which is too near for two lines of text.
        axes.annotate(
            f"{' and '.join(names)} GiB card{'s' if len(names) > 1 else ''}",
            (1.0, size * per_gib),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            fontsize=7.5,
            color="#666666",
        )
        names.clear()


def _point(family: MemorySummary, *, unit_bytes: int) -> Point:
    peak = math.nan if family.peak_bytes is None else family.peak_bytes / unit_bytes
    return Point(x=family.spec.micro_batch_size, y=peak, half_width=None, status=family.status)


def _mark_failures(axes: Axes, series: Sequence[Series], *, height: float) -> list[Line2D]:
    """Draw a crossed-out marker of its line per family without a peak; return what the legend says of the crosses."""
    failed = [(one, point) for one in series for point in one.points if not math.isfinite(point.y)]
    handles: dict[str, Line2D] = {}
    for one, point in failed:
        cross, meaning = FAILURE_MARKS.get(point.status, FAILURE_MARKS["other"])
        axes.plot([point.drawn_x], [height], **(one.style() | {"linestyle": "none"}), zorder=4)
        handle = axes.plot(
            [point.drawn_x],
            [height],
            marker=cross,
            color="black",
            linestyle="none",
            markersize=10,
            markeredgewidth=1.5,
            zorder=5,
        )[0]
        handle.set_label(meaning)
        handles[meaning] = handle
    return list(handles.values())


def _what_is_counted(families: Sequence[MemorySummary], *, origin: Provenance) -> str:
    """Return how the peak was taken."""
    counted = (
        "held by tensors, without the workspace of oneDNN" if origin.is_cpu else "reserved by the caching allocator"
    )
    if any(family.spec.is_traced for family in families):
        counted += ", traced where no step was run"
    return f"Bytes {counted}."


def _sizes(families: Sequence[MemorySummary]) -> str:
    sizes = sorted({(family.spec.worst_case_height, family.spec.worst_case_width) for family in families})
    return " or ".join(f"{height:,} x {width:,} px" for height, width in sizes)
