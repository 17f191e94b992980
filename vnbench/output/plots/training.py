"""Figures of training trials: step time and epoch time by batch size, throughput by loader workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from matplotlib.figure import Figure

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.trials.noise import Noise
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.plots.series import (
    Point,
    Series,
    draw_series,
    label_of,
    series_over,
    unless_named,
)
from vnbench.output.plots.style import legend_below, new_figure
from vnbench.output.words.levers import centre_of
from vnbench.output.words.noise import bars_line
from vnbench.output.words.numbers import scaled
from vnbench.output.words.provenance import Provenance
from vnbench.units import count, mpx


def step_time_figure(summaries: Sequence[TrialSummary], *, noise: Noise, origin: Provenance) -> Figure | None:
    """Return mean seconds per optimizer step against examples per step; None where no trial has a step time."""
    return _figure(
        summaries,
        lambda row: row.step_time,
        noise=noise,
        origin=origin,
        lever="batch_size",
        title="Time per optimizer step",
        y_label="step time (s)",
    )


def epoch_time_figure(summaries: Sequence[TrialSummary], *, noise: Noise, origin: Provenance) -> Figure | None:
    """Return the estimated wall clock of a whole epoch against examples per step; None where there is no estimate.

    It is that of valid pixels, as the table has them, so that both rank configurations alike. ``epoch_time`` of a
    summary, which a cost is told of, takes padding from the whole plan instead.
    """
    longest = max((time.value for row in summaries if (time := _valid_epoch_time(row))), default=0.0)
    unit, seconds = ("h", 3600.0) if longest >= 3 * 3600 else ("min", 60.0) if longest >= 180 else ("s", 1.0)
    sizes = sorted({row.num_examples for row in summaries if _valid_epoch_time(row) and row.num_examples})
    examples = f"all {' or '.join(f'{size:,}' for size in sizes)} training examples"
    return _figure(
        summaries,
        lambda row: scaled(_valid_epoch_time(row), 1 / seconds),
        noise=noise,
        origin=origin,
        lever="batch_size",
        title="Time per epoch",
        caption=f"Estimated for {examples} from the subset measured.",
        y_label=f"estimated time per epoch ({unit})",
    )


def workers_figure(summaries: Sequence[TrialSummary], *, noise: Noise, origin: Provenance) -> Figure | None:
    """Return valid megapixels per second against loader processes; None where none ran with two numbers of them."""
    return _figure(
        summaries,
        lambda row: scaled(row.valid_px_per_s, mpx(1)),
        noise=noise,
        origin=origin,
        lever="num_workers",
        title="Throughput by loader workers",
        y_label="throughput (valid Mpx/s)",
    )


_X_LABELS = {"batch_size": "batch size (examples per optimizer step)", "num_workers": "loader workers (processes)"}


def _figure(
    summaries: Sequence[TrialSummary],
    reading: Callable[[TrialSummary], Estimate | None],
    *,
    noise: Noise,
    origin: Provenance,
    lever: Literal["batch_size", "num_workers"],
    title: str,
    y_label: str,
    caption: str = "",
) -> Figure | None:
    """Return the figure of one reading over one lever, or None where no trial has the reading."""
    by_batch = lever == "batch_size"
    points = [(row.spec, point) for row in summaries if (point := _point(row, reading, by_batch=by_batch))]
    if not points:
        return None
    # The batch size is a lever beside the number of workers; a lever on the x axis is none.
    centre = centre_of([row.spec for row in summaries])
    drawn, num_left_out = series_over(points, centre=centre, ignored={lever}, min_num_x=1 if by_batch else 2)
    if not drawn:
        return None
    specs = [spec for spec, _ in points]
    # Only failures that would stand on a line of this figure.
    labels = {one.label for one in drawn}
    untimed = Counter(
        row.status
        for row in summaries
        if reading(row) is None and label_of(row.spec, centre=centre, ignored={lever}) in labels
    )
    remarks = [
        unless_named(centre, ignored={lever}, specs=specs),
        "A point without a bar rests on one step." if _lacks_interval(drawn) else "",
        f"Not drawn: {count(num_left_out, 'configuration')} with other levers." if num_left_out else "",
        f"Without a valid time: {', '.join(f'{number} {name}' for name, number in untimed.items())}."
        if untimed
        else "",
    ]
    figure, axes = new_figure(
        title=title,
        caption=f"{caption} {bars_line(noise, kind='training')}".strip(),
        remarks=remarks,
        origin=origin,
        trials=count(sum(len(one.points) for one in drawn), "configuration"),
    )
    draw_series(axes, drawn, scale="log2" if by_batch else "linear")
    axes.set_xlabel(_X_LABELS[lever])
    axes.set_ylabel(y_label)
    legend_below(axes)
    return figure


def _point(row: TrialSummary, reading: Callable[[TrialSummary], Estimate | None], *, by_batch: bool) -> Point | None:
    value = reading(row)
    x = row.spec.batch_size if by_batch else row.spec.num_workers
    return None if value is None else Point(x=x, y=value.value, half_width=value.half_width)


def _lacks_interval(series: Sequence[Series]) -> bool:
    return any(point.half_width is None for one in series for point in one.points)


def _valid_epoch_time(row: TrialSummary) -> Estimate | None:
    """Return the seconds of an epoch's valid pixels, known as well as the valid pixels per second."""
    if row.num_valid_pixels is None or row.valid_px_per_s is None:
        return None
    return row.valid_px_per_s.at(row.num_valid_pixels / row.valid_px_per_s.value)
