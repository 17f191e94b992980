"""The cells of a factored sweep as they are forecast, fastest first, with what was measured of those confirmed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.levers import varying
from vnbench.output.words.numbers import format_estimate, significant, times
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.sweep.confirming import NUM_BEST, NUM_RANDOM, Confirmation
from vnbench.sweep.factored import CellForecast
from vnbench.units import count, format_percent, mpx

MOST_ROWS = 12
"""Cells that are shown beside those confirmed: the fastest."""


def factored_table(forecasts: Sequence[CellForecast], confirmed: Sequence[Confirmation]) -> RenderableType:
    """Return the table; ``confirmed`` are the training trials that had a forecast."""
    if not forecasts:
        return Text("Nothing could be forecast: of each configuration some part is missing or failed.")
    measured: dict[TrialSpec, list[Confirmation]] = {}
    for confirmation in confirmed:
        measured.setdefault(confirmation.record.spec, []).append(confirmation)

    def found(one: CellForecast, name: str) -> float | None:
        """Return the mean of a figure over the processes that confirm a forecast."""
        figures = [getattr(confirmation, name) for confirmation in measured.get(one.spec, ())]
        return statistics.fmean(figures) if figures else None

    rows = [one for number, one in enumerate(forecasts) if number < MOST_ROWS or one.spec in measured]
    names = varying(one.spec for one in forecasts)
    columns: tuple[Column[CellForecast], ...] = (
        *lever_columns(names, lambda one: one.spec),
        Column("valid", _speed, unit="Mpx/s"),
        Column("epoch", _epoch, unit="s", gives_way=1),
        Column("computing", lambda one: one.time.computing_s, unit="s", text=significant, gives_way=3),
        Column("loading", lambda one: one.time.loading_s, unit="s", text=significant, gives_way=3),
        Column("measured", lambda one: found(one, "measured_s"), unit="s", text=significant, gives_way=2),
        Column("off by", lambda one: times(found(one, "error"), 100), unit="%", text="{:+.1f}".format),
    )
    heading = (
        f"Forecast from trials of the parts: {count(len(forecasts), 'configuration')}, the fastest first; an epoch is "
        f"that of the {count(forecasts[0].epoch.num_examples, 'measured example')}."
    )
    return Group(
        Text(heading), FittedTable(view=View(rows, columns).told(), elsewhere=""), Text(), *map(Text, _notes(confirmed))
    )


def error_line(confirmed: Sequence[Confirmation]) -> str | None:
    """Return how far the forecasts of confirmed cells were off; None without any."""
    if not confirmed:
        return None
    errors = [abs(one.error) for one in confirmed]
    inside = [is_inside for one in confirmed if (is_inside := one.is_inside) is not None]
    held = f"; {sum(inside)} of {len(inside)} inside their 90 % intervals" if inside else ""
    num_specs = len({one.record.spec_id for one in confirmed})
    what = count(num_specs, "confirmed configuration")
    if len(confirmed) > num_specs:
        what = f"{what} in {count(len(confirmed), 'process')}"
    return (
        f"forecasts of {what} off by {format_percent(statistics.median(errors))} "
        f"(median), at most {format_percent(max(errors))}{held}"
    )


def _speed(one: CellForecast) -> str:
    return f"{significant(mpx(one.valid_px_per_s))}{' !' if one.is_extrapolated else ''}"


def _epoch(one: CellForecast) -> str:
    low_s, high_s = one.epoch.low_s, one.epoch.high_s
    return format_estimate(one.epoch.value_s, None if low_s is None or high_s is None else (high_s - low_s) / 2)


def _notes(confirmed: Sequence[Confirmation]) -> Iterator[str]:
    yield (
        "A forecast multiplies the centre's epoch by one ratio per lever, each measured with the others at the centre. "
        "Without workers computing and loading add up; with workers the longer one counts. Intervals: 90 %. "
        "!: extrapolated, as some pass is smaller or larger than all that were timed."
    )
    line = error_line(confirmed)
    if line is None:
        yield "No forecast is confirmed yet: the same command again trains the chosen configurations."
    else:
        yield f"{line[0].upper()}{line[1:]} (the {NUM_BEST} fastest, and {NUM_RANDOM} at random)."
