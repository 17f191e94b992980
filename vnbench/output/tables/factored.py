"""The cells of a factored sweep as they are forecast, fastest first, with what was measured of those confirmed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.output.words.lever_columns import add_lever_columns, lever_cells
from vnbench.output.words.levers import varying
from vnbench.output.words.numbers import MISSING, format_estimate, significant
from vnbench.output.words.provenance import count
from vnbench.records.spec import TrialSpec
from vnbench.sweep.factored import NUM_BEST, NUM_RANDOM, CellForecast, Confirmation
from vnbench.units import format_percent, mpx

MOST_ROWS = 12
"""Cells that are shown beside those confirmed: the fastest."""

HEADERS = ("valid\nMpx/s", "epoch\ns", "com-\nputing s", "load-\ning s", "measured\ns", "off by\n%")


def factored_table(forecasts: Sequence[CellForecast], confirmed: Sequence[Confirmation]) -> RenderableType:
    """Return the table; ``confirmed`` are the training trials that had a forecast."""
    if not forecasts:
        return Text("No cell could be forecast: a part of each is missing or failed.")
    measured = {one.record.spec: one for one in confirmed}
    rows = [one for number, one in enumerate(forecasts) if number < MOST_ROWS or one.spec in measured]
    names = varying(one.spec for one in forecasts)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    add_lever_columns(table, names)
    for header in HEADERS:
        table.add_column(header, justify="right", no_wrap=True)
    for one in rows:
        table.add_row(
            *(Text(cell, overflow="fold") for cell in (*lever_cells(names, one.spec), *_figures(one, measured)))
        )
    heading = (
        f"Forecast from trials of the parts: {count(len(forecasts), 'configuration')}, the fastest first; an epoch is "
        f"that of the {forecasts[0].epoch.num_examples} measured examples."
    )
    return Group(Text(heading), table, Text(), *map(Text, _notes(confirmed)))


def error_line(confirmed: Sequence[Confirmation]) -> str | None:
    """Return how far the forecasts of confirmed cells were off; None without any."""
    if not confirmed:
        return None
    errors = [abs(one.error) for one in confirmed]
    inside = [
        one.record.forecast.low_s <= one.measured_s <= one.record.forecast.high_s
        for one in confirmed
        if one.record.forecast and one.record.forecast.low_s is not None and one.record.forecast.high_s is not None
    ]
    held = f"; {sum(inside)} of {len(inside)} inside their 90 % intervals" if inside else ""
    what = count(len(confirmed), "confirmed configuration")
    return (
        f"forecasts of {what} off by {format_percent(statistics.median(errors))} "
        f"(median), at most {format_percent(max(errors))}{held}"
    )


def _figures(one: CellForecast, measured: dict[TrialSpec, Confirmation]) -> tuple[str, ...]:
    epoch, found = one.epoch, measured.get(one.spec)
    half_width = None if epoch.low_s is None or epoch.high_s is None else (epoch.high_s - epoch.low_s) / 2
    return (
        f"{significant(mpx(one.valid_px_per_s))}{' !' if one.is_extrapolated else ''}",
        format_estimate(epoch.value_s, half_width),
        significant(one.computing_s),
        significant(one.loading_s),
        MISSING if found is None else significant(found.measured_s),
        MISSING if found is None else f"{100 * found.error:+.1f}",
    )


def _notes(confirmed: Sequence[Confirmation]) -> Iterator[str]:
    yield (
        "A forecast is the centre's own figure times one ratio per lever, each measured with the others at the centre; "
        "computing and loading add up without workers, and the longer one counts with them. Intervals: 90 %. "
        "!: some pass, as a short last one, is smaller or larger than all that were timed."
    )
    line = error_line(confirmed)
    if line is None:
        yield "No forecast is confirmed yet: the same command again trains the chosen configurations."
    else:
        yield f"{line[0].upper()}{line[1:]} (the {NUM_BEST} fastest, and {NUM_RANDOM} drawn)."
