"""The figure of compute trials: what a padded pixel takes by size of the step, and in the first step on a canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vnbench.analysis.models.fit import MIN_FIT_SIZES
from vnbench.analysis.trials.compute import CanvasSummary, ComputeSummary
from vnbench.analysis.trials.noise import Noise
from vnbench.output.plots.looks import VARIANTS, Look, Variant, looks_of, shaded
from vnbench.output.plots.series import MAX_SERIES, NOT_OF_COMPUTE, pass_label, unless_named
from vnbench.output.plots.style import decades, legend_below, new_figure, value_axis
from vnbench.output.words.levers import centre_of, describe, differences, levers_of, varying
from vnbench.output.words.noise import bars_line
from vnbench.output.words.provenance import Provenance
from vnbench.units import count, mpx


def compute_figure(rows: Sequence[ComputeSummary], *, noise: Noise, origin: Provenance) -> Figure | None:
    """Return seconds per padded megapixel against padded megapixels per step; None where no compute trial is timed."""
    timed = [row for row in rows if row.canvases]
    if not timed:
        return None
    specs = [row.spec for row in timed]
    centre = centre_of(specs)
    # Those stay that differ from the centre in the fewest levers.
    chosen = sorted(timed, key=lambda row: len(differences(levers_of(row.spec), centre=centre)))[:MAX_SERIES]
    chosen.sort(key=lambda row: (row.spec.micro_batch_size, timed.index(row)))
    has_first = any(canvas.first_seen_s is not None for row in chosen for canvas in row.canvases)
    remarks = [
        unless_named(centre, ignored=NOT_OF_COMPUTE, specs=specs),
        f"Not drawn: {count(len(timed) - len(chosen), 'configuration')}." if len(timed) > len(chosen) else "",
    ]
    figure, axes = new_figure(
        title="Step time per pixel",
        caption=bars_line(noise, kind="compute") + (" Open markers: the first step on a canvas." if has_first else ""),
        remarks=remarks,
        origin=origin,
        trials=count(len(chosen), "configuration"),
    )
    names = [name for name in varying(specs) if name not in ("batch_size", "micro_batch_size", "precision")]
    looks = looks_of(row.spec.precision for row in chosen)
    variants: list[str] = []
    handles: list[Line2D] = []
    for row in chosen:
        # Lines of one precision differ in their dashes: each combination of the other levers has its own.
        variant = describe(row.spec, names=["batch_size", *names])
        variants += [variant] if variant not in variants else []
        handle = _draw(axes, row, look=looks[row.spec.precision], variant=VARIANTS[variants.index(variant)])
        handle.set_label(pass_label(row.spec, centre=centre))
        handles.append(handle)
    _scale(axes, [canvas for row in chosen for canvas in row.canvases])
    axes.set_xlabel("padded pixels per step (Mpx)")
    axes.set_ylabel("step time (s per padded Mpx)")
    legend_below(axes, handles=handles)
    return figure


def _draw(axes: Axes, row: ComputeSummary, *, look: Look, variant: Variant) -> Line2D:
    """Draw the steps of one configuration with their intervals, and its first steps; return what the legend shows."""
    canvases = sorted(row.canvases, key=lambda canvas: canvas.padded_pixels)
    colour = shaded(look.colour, variant)
    x = [mpx(canvas.padded_pixels) for canvas in canvases]
    container = axes.errorbar(
        x,
        [_per_mpx(canvas, canvas.step_time.value) for canvas in canvases],
        yerr=[
            math.nan if (bar := canvas.step_time.half_width) is None else _per_mpx(canvas, bar) for canvas in canvases
        ],
        marker=look.marker,
        markersize=5,
        color=colour,
        # A line through two sizes would show a trend that nothing confirms.
        linestyle=variant.line if len(canvases) >= MIN_FIT_SIZES else "none",
        linewidth=1.2,
        elinewidth=1.0,
        capsize=3,
        zorder=3,
    )
    first = [
        (place, _per_mpx(canvas, canvas.first_seen_s))
        for place, canvas in zip(x, canvases, strict=True)
        if canvas.first_seen_s
    ]
    if first:
        axes.plot(
            *zip(*first, strict=True),
            marker=look.marker,
            markersize=4,
            markerfacecolor="white",
            markeredgewidth=0.8,
            color=colour,
            linestyle="none",
            zorder=2,
        )
    line = container.lines[0]
    assert line is not None
    return line


def _per_mpx(canvas: CanvasSummary, seconds: float) -> float:
    return seconds / mpx(canvas.padded_pixels)


def _scale(axes: Axes, canvases: Sequence[CanvasSummary]) -> None:
    """Scale x by powers of ten, and y from zero: a level line is a time in proportion to pixels."""
    highs = [
        _per_mpx(canvas, max(canvas.step_time.value + (canvas.step_time.half_width or 0.0), canvas.first_seen_s or 0.0))
        for canvas in canvases
    ]
    lows = [
        _per_mpx(canvas, max(canvas.step_time.value - (canvas.step_time.half_width or 0.0), canvas.step_time.value / 2))
        for canvas in canvases
    ]
    places = [mpx(canvas.padded_pixels) for canvas in canvases]
    axes.set_xscale("log")
    axes.set_xlim(min(places) / 1.15, max(places) * 1.15)
    decades(axes.xaxis)
    value_axis(axes, lows, highs)
