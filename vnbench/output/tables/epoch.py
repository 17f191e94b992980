"""What an epoch of every measured configuration takes and costs, as a table under that of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.trials.cost import Epoch, cost_of_epoch
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.lever_columns import lever_columns
from vnbench.output.view import Column, View
from vnbench.output.words.numbers import MISSING, time_unit, told


def epoch_table(rows: Sequence[TrialSummary], *, names: Sequence[str], price_per_hour: float) -> RenderableType:
    """Return time, cost and energy per epoch of the rows that have an epoch time, in their order, with intervals.

    ``names`` are the levers that tell rows apart; ``price_per_hour`` is in any currency, and cost in the same. Energy
    is that of the device at its mean power, left out where no trial knew it.
    """
    epochs = [
        (row, cost_of_epoch(row.epoch_time, price_per_hour=price_per_hour, power_w=row.power_w))
        for row in rows
        if row.epoch_time is not None
    ]
    if not epochs:
        return Text("No epoch time, so no cost.")
    unit, seconds = time_unit(max(epoch.time.value for _, epoch in epochs))
    has_energy = any(epoch.energy_kwh is not None for _, epoch in epochs)
    columns: list[Column[tuple[TrialSummary, Epoch]]] = [
        *lever_columns(names, lambda one: one[0].spec),
        Column("epoch", lambda one: told(one[1].time / seconds), unit=unit),
        Column("cost per\nepoch", lambda one: told(one[1].cost)),
    ]
    if has_energy:
        columns.append(Column("kWh per\nepoch", lambda one: told(one[1].energy_kwh), gives_way=1))
    sizes = sorted({row.num_examples for row, _ in epochs if row.num_examples})
    examples = " or ".join(f"{size:,}" for size in sizes) or MISSING
    heading = f"An epoch of all {examples} training examples, at {price_per_hour:g} per hour"
    return Group(
        Text(f"{heading}{', energy at the mean power of the device' if has_energy else ''}:"),
        FittedTable(view=View(epochs, columns), elsewhere="vnbench export"),
    )
