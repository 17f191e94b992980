"""Trials as series of points over one lever: which trials make one line, and how lines stay apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from vnbench.output.plots.looks import VARIANTS, Look, looks_of
from vnbench.output.plots.style import NO_BREAK_SPACE, Scale, number_axis, value_axis
from vnbench.output.words.levers import (
    Levers,
    differences,
    levers_of,
    phrases,
    varying,
    worth_naming,
)
from vnbench.records.record import Status
from vnbench.records.spec.lever import LeverValue
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec

MAX_SERIES = len(VARIANTS)
"""Most series in one figure: more can neither be told apart nor named in a legend."""

POINT_GAP, POINTS_WIDTH = 0.14, 0.66
"""Gap between points at a tick, and the most that all of them take, as shares of the way to the next tick."""

NOT_OF_COMPUTE = ("batch_size", "micro_batch_size", "sampler", "num_workers", "corpus_id")
"""Levers that a trial without a loader does not have, or that its label begins with."""

BAND_WIDTH, BAND_GREY = 0.84, "#F1F1F1"
"""The band of a tick, as wide a share: what stands in it belongs to the tick, wherever in it."""


MIN_LINE_X = 3
"""Fewest different x that a line joins: through two it always fits, and shows a trend that nothing confirms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measured trial."""

    x: float
    """Value of the lever on the x axis."""
    y: float
    """The figure, in the unit of the y axis; NaN where the trial has none, and then nothing is drawn."""
    half_width: float | None
    """Half-width of its interval, same unit; None where it has none."""
    status: Status = "ok"
    """How the trial ended."""
    place: float | None = None
    """Where on the x axis it is drawn (``set_apart``); None for at ``x``."""

    @property
    def drawn_x(self) -> float:
        """Where on the x axis it is drawn."""
        return self.x if self.place is None else self.place


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Trials that differ in the lever on the x axis alone (and in what is no lever, as their seed)."""

    label: str
    """Its precision, and the levers in which it differs from the centre."""
    look: Look
    """Colour and marker."""
    variant: int = 0
    """Place in VARIANTS: the same for the same levers, 0 for the centre's where they are drawn."""
    points: tuple[Point, ...]
    """In the order of x."""

    @property
    def num_x(self) -> int:
        """Number of different x: it takes two to show what the lever does."""
        return len({point.x for point in self.points})

    def style(self) -> dict[str, Any]:
        """Return the keywords of its line and markers; without a third x there is no line (MIN_LINE_X)."""
        variant = VARIANTS[self.variant]
        is_hollow = variant.fill == "none"
        return {
            "color": self.look.colour,
            "marker": self.look.marker,
            # White, not empty: an empty marker would show its own error bar inside.
            "fillstyle": "full" if is_hollow else variant.fill,
            "markerfacecolor": "white" if is_hollow else self.look.colour,
            "markerfacecoloralt": "white",
            "linestyle": variant.line if self.num_x >= MIN_LINE_X else "none",
        }


def series_over(
    points: Iterable[tuple[TrialSpec, Point]], *, centre: Levers, ignored: Iterable[str], min_num_x: int = 1
) -> tuple[tuple[Series, ...], int]:
    """Return the trials grouped by every lever but the ``ignored`` ones, and how many trials are left out.

    ``ignored`` holds the lever on the x axis, and others that cannot matter to the figure. Groups of fewer than
    ``min_num_x`` different x are no series. Of more than MAX_SERIES those stay that differ from the centre in the
    fewest levers; among equals a number of loader workers, which has a figure of its own, gives way.
    """
    skipped = {*ignored}
    groups: dict[tuple[LeverValue, ...], list[tuple[TrialSpec, Point]]] = {}
    for spec, point in points:
        key = tuple(value for name, value in levers_of(spec).items() if name not in skipped)
        groups.setdefault(key, []).append((spec, point))
    looks = looks_of(spec.precision for members in groups.values() for spec, _ in members)
    found: list[tuple[Levers, Series]] = []
    for members in groups.values():
        levers = levers_of(members[0][0])
        different = differences(levers, centre=centre, ignored={*skipped, "precision"})
        series = Series(
            label=label_of(members[0][0], centre=centre, ignored=skipped),
            look=looks[members[0][0].precision],
            points=tuple(sorted((point for _, point in members), key=lambda point: point.x)),
        )
        if series.num_x >= min_num_x:
            found.append((different, series))
    found.sort(key=lambda item: (len(item[0]), "num_workers" in item[0], -item[1].num_x))
    kept, rest = found[:MAX_SERIES], found[MAX_SERIES:]
    variants = [different for different, _ in kept]
    order = list(looks.values())
    styled = [replace(series, variant=_first_of(variants, different)) for different, series in kept]
    styled.sort(key=lambda series: (series.variant, order.index(series.look)))
    return tuple(styled), sum(len(series.points) for _, series in rest)


def label_of(spec: TrialSpec, *, centre: Levers, ignored: Iterable[str]) -> str:
    """Return the legend's name for a trial: its precision, then the levers in which it differs from the centre."""
    levers = levers_of(spec)
    different = differences(levers, centre=centre, ignored={*ignored, "precision"})
    return ", ".join(filter(None, (str(levers["precision"]), phrases(levers, names=different))))


def pass_label(spec: TrialSpec, *, centre: Levers) -> str:
    """Return the legend's name for computing alone: its micro-batch, then what ``label_of`` says."""
    return f"micro-batch {spec.micro_batch_size}, {label_of(spec, centre=centre, ignored=NOT_OF_COMPUTE)}"


def _first_of(variants: Sequence[Levers], different: Levers) -> int:
    distinct = [variant for index, variant in enumerate(variants) if variant not in variants[:index]]
    return distinct.index(different)


def unless_named(centre: Levers, *, ignored: Iterable[str], specs: Iterable[TrialSpec]) -> str:
    """Return the centre's levers as a remark: those that vary, and those that every reader asks for."""
    specs = tuple(specs)
    switches = {name for name in worth_naming(specs) if LEVERS[name].quiet is not None}
    names = {"model", "checkpointing", "sampler", "num_workers"} | {*varying(specs)} | switches
    names -= {"precision", *ignored}
    told = phrases(centre, names=names).replace(" ", NO_BREAK_SPACE).replace(f",{NO_BREAK_SPACE}", ", ")
    return f"Unless named: {told}."


def draw_series(axes: Axes, series: Sequence[Series], *, scale: Scale) -> tuple[Series, ...]:
    """Draw every series with the interval of every point, scale both axes to them, and return them as they stand.

    Points at the same x stand side by side in a band about its tick. Where trials of one series share an x, its line
    runs through their mean.
    """
    apart = set_apart(series, scale=scale)
    for one in apart:
        style = one.style()
        shares_x = one.num_x < len(one.points)
        axes.errorbar(
            [point.drawn_x for point in one.points],
            [point.y for point in one.points],
            yerr=_bars(one),
            label=one.label,
            capsize=4,  # wider than a marker, so that a short bar still shows
            elinewidth=1.1,
            linewidth=1.3,
            **(style | ({"linestyle": "none"} if shares_x else {})),
        )
        if shares_x and one.num_x >= MIN_LINE_X:
            means = _means(one)
            axes.plot(
                *zip(*means, strict=True), color=style["color"], linestyle=style["linestyle"], linewidth=1.3, zorder=1.5
            )
    points = [point for one in series for point in one.points]
    places = [point.x for point in points]
    number_axis(axes, places, scale=scale)
    if len(set(places)) < len(places):
        draw_bands(axes, places, scale=scale)
    finite = [point for point in points if math.isfinite(point.y)]
    # An interval that reaches below half its value is cut there, or one wild trial would set the scale of all.
    lows = [max(point.y - (point.half_width or 0.0), point.y / 2) for point in finite]
    value_axis(axes, lows, [point.y + (point.half_width or 0.0) for point in finite])
    return apart


def draw_bands(axes: Axes, places: Iterable[float], *, scale: Scale) -> None:
    """Shade a band about each tick, in which points that share it stand side by side."""
    ticks = sorted(set(places))
    for tick in ticks:
        ends = (moved(tick, share, ticks=ticks, scale=scale) for share in (-BAND_WIDTH / 2, BAND_WIDTH / 2))
        axes.axvspan(*ends, color=BAND_GREY, linewidth=0, zorder=0)


def moved(x: float, share: float, *, ticks: Iterable[float], scale: Scale) -> float:
    """Return an x moved by a share of the way between the two ticks that are closest to each other."""
    if scale == "linear":
        return x + share * _step(ticks)
    return float(x * 2 ** (share * _step(map(math.log2, ticks))))


def _step(places: Iterable[float]) -> float:
    return min((after - before for before, after in pairwise(sorted(set(places)))), default=1.0)


def _means(series: Series) -> list[tuple[float, float]]:
    """Return the mean drawn place and the mean figure at each x."""
    at: dict[float, list[Point]] = {}
    for point in series.points:
        at.setdefault(point.x, []).append(point)
    return [(fmean(point.drawn_x for point in points), fmean(point.y for point in points)) for points in at.values()]


def _bars(series: Series) -> list[list[float]] | None:
    """Return the lengths of bars below and above as matplotlib takes them, or None where nothing has one.

    No bar ends below zero, as no figure lies there.
    """
    if all(point.half_width is None for point in series.points):
        return None
    lengths = [math.nan if point.half_width is None else point.half_width for point in series.points]
    return [[min(length, point.y) for length, point in zip(lengths, series.points, strict=True)], lengths]


def set_apart(series: Sequence[Series], *, scale: Scale) -> tuple[Series, ...]:
    """Return the series with points that share an x moved side by side, in their order, about its tick."""
    ticks = {point.x for one in series for point in one.points}
    sharing = Counter(point.x for one in series for point in one.points)
    seen = Counter[float]()

    def placed(point: Point) -> Point:
        number = sharing[point.x]
        rank = seen[point.x] - (number - 1) / 2
        seen[point.x] += 1
        share = rank * min(POINT_GAP, POINTS_WIDTH / number)
        return replace(point, place=moved(point.x, share, ticks=ticks, scale=scale))

    return tuple(replace(one, points=tuple(map(placed, one.points))) for one in series)
