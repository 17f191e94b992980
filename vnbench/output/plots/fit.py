"""The figure of fitted step times: points, curves with their bands, and below them what the curves miss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.models.step_fit import CONFIDENCE
from vnbench.output.plots.looks import CYCLE, Look, looks_of
from vnbench.output.plots.series import NOT_OF_COMPUTE, pass_label, unless_named
from vnbench.output.plots.style import decades, legend_below, new_panels
from vnbench.output.words.levers import centre_of
from vnbench.output.words.provenance import Provenance
from vnbench.units import count, mpx

SMALLEST_SHARE = 0.01
"""Share of its upper end where a band that reaches below zero ends: a logarithmic axis has no zero."""

NUM_PLACES = 60
"""Places at which curves and bands are drawn."""


def fit_figure(families: Sequence[FamilyFit], *, origin: Provenance) -> Figure | None:
    """Return step time against padded pixels with each family's curve; None without a family."""
    if not families:
        return None
    shown = sorted(families, key=lambda one: (one.source, -one.fit.num_sizes))[: len(CYCLE)]
    left_out = len(families) - len(shown)
    is_assumed = any(not one.fit.is_between_measured for one in shown)
    centre = centre_of([one.spec for one in shown])
    remarks = [
        unless_named(centre, ignored=NOT_OF_COMPUTE, specs=[one.spec for one in shown]),
        "The spread between processes is assumed, not measured." if is_assumed else "",
        f"Not drawn: {count(left_out, 'configuration')}." if left_out else "",
    ]
    num_processes = sum(one.fit.num_processes for one in shown)
    figure, (upper, lower) = new_panels(
        title="Step time by padded pixels",
        caption=f"Points: one process. Bands: {100 * CONFIDENCE:g} % of further processes and sizes should lie there.",
        remarks=remarks,
        origin=origin,
        trials=count(num_processes, "timed trial"),
        ratios=(1.0, 0.4),
    )
    by_precision = looks_of(one.spec.precision for one in shown)
    looks = [by_precision[one.spec.precision] for one in shown] if len(by_precision) == len(shown) else CYCLE
    for look, family in zip(looks, shown, strict=False):
        _draw(upper, lower, family, look=look, label=pass_label(family.spec, centre=centre))
    # By powers of ten: a band as wide as a share of its time looks so everywhere, and small steps stand apart.
    for scaled, axis in ((upper.set_xscale, upper.xaxis), (upper.set_yscale, upper.yaxis)):
        scaled("log")
        decades(axis)
    upper.set_ylabel("step time (s)")
    lower.axhline(0, color="#555555", linewidth=0.8)
    lower.set_ylabel("error at a size\nleft out (%)")
    lower.set_xlabel("padded pixels per step (Mpx)")
    legend_below(lower, handles=upper.get_legend_handles_labels()[0])
    return figure


def _draw(upper: Axes, lower: Axes, family: FamilyFit, *, look: Look, label: str) -> None:
    points, model = family.points, family.fit.model
    dots: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": "none", "markersize": 5}
    upper.plot(
        [mpx(point.padded_pixels) for point in points],
        [point.step_time_s for point in points],
        **dots,
    )
    places = np.linspace(model.smallest_pixels, model.largest_pixels, NUM_PLACES)
    upper.plot(
        [mpx(place) for place in places],
        [model.time_s(place) for place in places],
        color=look.colour,
        marker=look.marker,
        markevery=[],
        linewidth=1.3,
        label=label,
    )
    bands = [family.fit.forecast([place]).interval(CONFIDENCE) for place in places.tolist()]
    known = [(place, band) for place, band in zip(places, bands, strict=True) if band is not None]
    if known:
        upper.fill_between(
            [mpx(place) for place, _ in known],
            [max(SMALLEST_SHARE * high, low) for _, (low, high) in known],
            [high for _, (_, high) in known],
            color=look.colour,
            alpha=0.12,
            linewidth=0,
        )
    lower.plot(
        [mpx(one.padded_pixels) for one in family.fit.left_out],
        [100 * one.error for one in family.fit.left_out],
        **dots,
    )
