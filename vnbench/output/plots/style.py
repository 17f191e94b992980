"""The frame that every figure shares: size, title, provenance, axes, legend, files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Any, Literal

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from vnbench.output.words.provenance import CPU_LABEL, Provenance

WIDTH_INCHES = 4.8
"""At half the width of an A4 page, 85 mm, the smallest lettering is still five points high."""
PLOT_INCHES = 2.9
"""Height of the axes with their labels; heading, legend and footer come on top."""
DOTS_PER_INCH = 240
CAPTION_COLUMNS, FOOTER_COLUMNS = 74, 82
"""Characters that fit the width, in 8.5 and 7.5 points."""
LEGEND_COLUMNS = 72
"""Characters of a legend that fit the width, in 8.5 points with room for the samples."""
LEGEND_ROW_INCHES = 0.165
MAX_TICKS = 20
"""Numbers that fit beside each other under an axis."""
MAX_LEGEND_ROWS = 8
"""Rows of a legend beyond which nobody reads it; the first entries are named."""
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
FORMATS = ("png", "svg")

HATCH = "////"
"""Marks what was forecast and not measured, wherever it is drawn and no other hatch tells cards apart."""

HATCHED = "Hatched: forecast, not measured"
"""Says so in a caption."""

Scale = Literal["log2", "linear"]
"""Spacing of an x axis."""

_SETTINGS: Any = {  # matplotlib 3.11 types its keys as literals, 3.9 as str
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.markersize": 6.5,
    "hatch.linewidth": 0.7,
    "svg.hashsalt": "vnbench",  # the same figure gives the same file
}


def styled() -> Any:
    """Return the context in which figures are drawn and written; it leaves matplotlib's own settings as they were.

    What a ``matplotlibrc`` of the user or of the working folder says is for other figures.
    """
    return style.context(["default", _SETTINGS])


def new_figure(
    *, title: str, caption: str, origin: Provenance, trials: str, remarks: Sequence[str] = ()
) -> tuple[Figure, Axes]:
    """Return a figure and its one pair of axes, between a heading and a footer.

    ``caption`` says in at most two sentences how to read it. The footer holds ``remarks``, a sentence each: what all
    trials share, and what is not drawn. It ends with where and when ``trials`` (as ``7 trials``) were measured, and for
    the CPU what that means.
    """
    figure = _bare_figure(title, caption, remarks, origin=origin, trials=trials, plot_inches=PLOT_INCHES)
    return figure, figure.add_subplot()


def new_columns(
    *,
    title: str,
    caption: str,
    origin: Provenance,
    trials: str,
    ratios: Sequence[float],
    num_rows: int,
    remarks: Sequence[str] = (),
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of panels beside each other, which share their y axis of some rows, with widths in these ratios.

    Heading and footer are those of ``new_figure``.
    """
    inches = 0.75 + 0.27 * num_rows
    figure = _bare_figure(title, caption, remarks, origin=origin, trials=trials, plot_inches=inches)
    panels = figure.subplots(1, len(ratios), sharey=True, width_ratios=list(ratios), squeeze=False)[0]
    return figure, list(panels)


def new_panels(
    *, title: str, caption: str, origin: Provenance, trials: str, ratios: Sequence[float], remarks: Sequence[str] = ()
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of panels below each other, which share their x axis, with heights in these ratios to the first.

    Heading and footer are those of ``new_figure``.
    """
    inches = PLOT_INCHES * sum(ratios) / ratios[0]
    figure = _bare_figure(title, caption, remarks, origin=origin, trials=trials, plot_inches=inches)
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=list(ratios), squeeze=False)[:, 0]
    return figure, list(panels)


def _bare_figure(
    title: str, caption: str, remarks: Sequence[str], *, origin: Provenance, trials: str, plot_inches: float
) -> Figure:
    told = [*filter(None, remarks), origin.line(trials), *([CPU_LABEL] if origin.is_cpu else [])]
    footer = [line for one in told for line in textwrap.wrap(one, FOOTER_COLUMNS)]
    heading = textwrap.wrap(caption, CAPTION_COLUMNS)
    line, margin = 0.145, 0.08  # inches
    top = margin + 0.22 + line * len(heading) + margin
    bottom = margin + line * len(footer) + margin
    height = top + plot_inches + bottom
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DOTS_PER_INCH, layout="constrained")
    # Places are inches from an edge, so that the figure may still grow.
    upper = figure.transFigure + ScaledTranslation(0, -margin, figure.dpi_scale_trans)
    below = figure.transFigure + ScaledTranslation(0, -margin - 0.24, figure.dpi_scale_trans)
    lower = figure.transFigure + ScaledTranslation(0, margin, figure.dpi_scale_trans)
    figure.text(0.015, 1, title, va="top", fontsize=11.5, fontweight="bold", transform=upper)
    figure.text(0.015, 1, "\n".join(heading), va="top", fontsize=8.5, color="#333333", transform=below)
    figure.text(0.015, 0, "\n".join(footer), va="bottom", fontsize=7.5, color="#555555", transform=lower)
    _engine(figure).set(rect=(0.0, bottom / height, 1.0, plot_inches / height))
    return figure


def _engine(figure: Figure) -> Any:
    engine = figure.get_layout_engine()
    assert engine is not None  # layout="constrained" made one
    return engine


def _grow(figure: Figure, inches: float) -> None:
    """Make the place between heading and footer higher."""
    height = figure.get_figheight()
    _, bottom, _, plot = _engine(figure).get()["rect"]
    taller = height + inches
    figure.set_figheight(taller)
    _engine(figure).set(rect=(0.0, bottom * height / taller, 1.0, (plot * height + inches) / taller))


def hatched(colour: str, *, hatch: str = HATCH) -> dict[str, Any]:
    """Return how a bar or band is drawn of what was forecast and not measured."""
    return {"facecolor": "none", "edgecolor": colour, "hatch": hatch, "linewidth": 0.9}


def number_axis(axes: Axes, values: Sequence[float], *, scale: Scale) -> None:
    """Put x ticks at ``values`` only, written as the numbers they are, with half a step of room at either end."""
    ticks = sorted(set(values))
    if scale == "log2":
        axes.set_xscale("log", base=2)  # brings its own locator and formatter, so it comes first
        axes.set_xlim(ticks[0] / 2**0.5, ticks[-1] * 2**0.5)
    else:
        room = 0.5 * min((after - before for before, after in pairwise(ticks)), default=1.0)
        axes.set_xlim(ticks[0] - room, ticks[-1] + room)
    axes.xaxis.set_major_locator(FixedLocator(_apart(ticks, scale=scale)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=False, axis="x")


def _apart(ticks: Sequence[float], *, scale: Scale) -> list[float]:
    """Return the ticks whose numbers do not run into the one before."""
    places = [log2(tick) if scale == "log2" else tick for tick in ticks]
    room = (places[-1] - places[0]) / MAX_TICKS
    kept = [0]
    for index in range(1, len(ticks)):
        if places[index] - places[kept[-1]] >= room:
            kept.append(index)
    return [ticks[index] for index in kept]


def value_axis(axes: Axes, lows: Sequence[float], highs: Sequence[float]) -> None:
    """Let the y axis span the intervals: from zero, or in powers of ten where the values spread by more than eight."""
    low, high = min(lows), max(highs)
    if low > 0 and high > 8 * low:
        axes.set_yscale("log")
        decades(axes.yaxis)
        axes.set_ylim(low / 1.4, high * 1.4)
    else:
        axes.set_yscale("linear")
        axes.set_ylim(0, 1.12 * high if high > 0 else 1)


def decades(axis: Axis, *, times: Sequence[float] = (1, 2, 5)) -> None:
    """Put the ticks of a logarithmic axis at so many times the powers of ten, written as the numbers they are."""
    axis.set_major_locator(LogLocator(base=10, subs=times))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def legend_below(axes: Axes, *, handles: Sequence[Any] | None = None, num_columns: int | None = None) -> None:
    """Put the legend under the x axis, never over data, in as many columns as its longest label allows, or so many."""
    chosen = list(handles) if handles is not None else axes.get_legend_handles_labels()[0]
    if not chosen:
        return
    longest = max(len(str(handle.get_label())) for handle in chosen)
    columns = num_columns or min(len(chosen), max(1, LEGEND_COLUMNS // (longest + 8)), 4)
    room = columns * MAX_LEGEND_ROWS
    if len(chosen) > room:
        rest = Line2D([], [], linestyle="none", label=f"and {len(chosen) - room + 1} more")
        chosen = [*chosen[: room - 1], rest]
    labels = [textwrap.fill(str(handle.get_label()), LEGEND_COLUMNS - 8) for handle in chosen]
    rows = max(
        sum(label.count("\n") + 1 for label in labels[start : start + -(-len(labels) // columns)])
        for start in range(0, len(labels), -(-len(labels) // columns))
    )
    figure = axes.figure
    assert isinstance(figure, Figure)  # no axes here are of a figure within a figure
    _grow(figure, LEGEND_ROW_INCHES * rows)
    lines = max(label.get_text().count("\n") for label in axes.get_xticklabels())
    points = 34 + 12 * lines  # tick labels and axis label
    axes.legend(
        chosen,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -points / 72, axes.figure.dpi_scale_trans),
        ncols=columns,
        frameon=False,
        handlelength=2.6,
        columnspacing=1.5,
    )


def save(figure: Figure, directory: Path, *, name: str) -> tuple[Path, ...]:
    """Write the figure as ``name`` in every format, into a directory that is made where missing; return the paths.

    Raises:
        OSError: the directory cannot be written to; no part of a file stays.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = tuple(directory / f"{name}.{suffix}" for suffix in FORMATS)
    # One layout holds for all formats. With an engine, even one that does nothing, matplotlib would draw the figure
    # once more before each file.
    _engine(figure).execute(figure)
    figure.set_layout_engine(None)
    for path in paths:
        try:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return paths
