"""The table of forecasts."""

from __future__ import annotations

import record_factory as factory
from rich.console import Console

from vnbench.commands.guide import guide_page
from vnbench.output.tables.forecast import Row, RunAsked, forecast_table

HEADINGS = ("largest that fits", "batch", "memory", "step", "run")


def table() -> str:
    rows = [
        Row(record=factory.forecast_record(factory.forecast_spec(micro_batch_size=size)), largest=8, run=None)
        for size in (1, 2)
    ]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(forecast_table(rows, asked=RunAsked(num_examples=600, num_epochs=2), measured=(), notes=()))
    return captured.get()


def test_at_most_three_lines_stand_under_the_table_and_the_guide_explains_its_columns() -> None:
    notes = table().rpartition("Forecast, ")[2].splitlines()
    assert len(notes) <= 3
    assert "vnbench guide no-gpu" in notes[0]
    guide = guide_page("no-gpu")
    assert all(f"- {heading}: " in guide for heading in HEADINGS)
