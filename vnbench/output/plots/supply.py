"""The figure of what loaders supply against their number of workers, with what computing takes drawn in."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from vnbench.analysis.models.saturation import MARGIN, appetites, families
from vnbench.analysis.trials.compute import ComputeSummary
from vnbench.analysis.trials.loading import LoaderSummary
from vnbench.analysis.trials.noise import Noise
from vnbench.output.plots.looks import CYCLE
from vnbench.output.plots.series import Point, Series, draw_series
from vnbench.output.plots.style import legend_below, new_figure, value_axis
from vnbench.output.words.levers import describe, varying
from vnbench.output.words.noise import bars_line
from vnbench.output.words.provenance import Provenance
from vnbench.output.words.saturation import NOT_WORKERS
from vnbench.units import count

MAX_APPETITES = 2
"""Lines of demand: the hungriest configuration, and the least hungry."""


def supply_figure(
    rows: Sequence[LoaderSummary], *, computing: Sequence[ComputeSummary], noise: Noise, origin: Provenance
) -> Figure | None:
    """Return examples per second against workers; None where no loader ran with two numbers of them."""
    groups = [group for group in families(rows) if len({row.spec.num_workers for row in group}) > 1]
    if not groups:
        return None
    shown = groups[: len(CYCLE)]
    differing = [name for name in varying(row.spec for group in groups for row in group) if name in NOT_WORKERS]
    series = [
        Series(
            label=describe(group[-1].spec, names=differing) or "supply",
            look=CYCLE[index],
            points=tuple(map(_point, group)),
        )
        for index, group in enumerate(shown)
    ]
    hungry = appetites(computing, shown[0])
    wanted = list(dict.fromkeys((*hungry[:1], *hungry[-1:])))[:MAX_APPETITES]
    left_out = sum(map(len, groups[len(CYCLE) :]))
    remarks = [
        f"Demand: what computing alone takes; {100 * MARGIN:g} % more supply keeps it fed."
        if wanted
        else "What computing takes was not measured (--kind compute).",
        f"Not drawn: {count(left_out, 'configuration')}." if left_out else "",
    ]
    figure, axes = new_figure(
        title="What the loader supplies",
        caption="Image files decoded, padded and handed over while nothing is computed. "
        f"{bars_line(noise, kind='loader')}",
        remarks=remarks,
        origin=origin,
        trials=count(sum(row.num_processes for group in shown for row in group), "loader trial"),
    )
    draw_series(axes, series, scale="linear")
    for index, appetite in enumerate(wanted):
        assert appetite.spec is not None
        names = ("precision", "norm_precision", "checkpointing")
        axes.axhline(
            appetite.examples_per_s.value,
            color="black",
            linestyle=("--", ":")[index],
            linewidth=1.3,
            zorder=1,
            label=f"demand: {describe(appetite.spec, names=names)}",
        )
    tops = [point.y + (point.half_width or 0.0) for one in series for point in one.points]
    value_axis(axes, [0.0], [*tops, *(appetite.examples_per_s.value for appetite in wanted)])
    axes.set_xlabel("loader workers (processes or threads)")
    axes.set_ylabel("supply (examples/s)")
    legend_below(axes)
    return figure


def _point(row: LoaderSummary) -> Point:
    assert row.supply is not None
    half_width = row.supply.time_per_example.relative_half_width
    return Point(
        x=row.spec.num_workers,
        y=row.supply.examples_per_s,
        half_width=None if half_width is None else half_width * row.supply.examples_per_s,
    )
