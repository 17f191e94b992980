"""What an epoch of every measured configuration takes and costs, as a table under that of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.analysis.trials.cost import cost_of_epoch
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.words.lever_columns import add_lever_columns, lever_cells
from vnbench.output.words.numbers import MISSING, format_estimate, time_unit, times


def epoch_table(rows: Sequence[TrialSummary], *, names: Sequence[str], price_per_hour: float) -> RenderableType:
    """Return time, cost and energy per epoch of the rows that have an epoch time, in their order, with intervals.

    ``names`` are the levers that tell rows apart; ``price_per_hour`` is in any currency, and cost in the same. Energy
    is that of the device at its mean power, left out where no trial knew it.
    """
    epochs = [
        (
            row,
            cost_of_epoch(
                row.epoch_time_s,
                relative_half_width=row.padded_relative_half_width,
                price_per_hour=price_per_hour,
                power_w=row.power_w,
            ),
        )
        for row in rows
        if row.epoch_time_s is not None
    ]
    if not epochs:
        return Text("No epoch time, so no cost.")
    unit, seconds = time_unit(max(epoch.time_s for _, epoch in epochs))
    has_energy = any(epoch.energy_kwh is not None for _, epoch in epochs)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    add_lever_columns(table, names)
    for header in (f"epoch\n{unit}", "cost per\nepoch", *(("kWh per\nepoch",) if has_energy else ())):
        table.add_column(header, justify="right", no_wrap=True)
    for row, epoch in epochs:
        amounts = (epoch.time_s / seconds, epoch.cost, *((epoch.energy_kwh,) if has_energy else ()))
        figures = [format_estimate(amount, times(amount, epoch.relative_half_width)) for amount in amounts]
        table.add_row(*(Text(cell, overflow="fold") for cell in (*lever_cells(names, row.spec), *figures)))
    sizes = sorted({row.num_examples for row, _ in epochs if row.num_examples})
    examples = " or ".join(f"{size:,}" for size in sizes) or MISSING
    heading = f"An epoch of all {examples} training examples, at {price_per_hour:g} per hour"
    return Group(Text(f"{heading}{', energy at the mean power of the device' if has_energy else ''}:"), table)
