"""The lever columns with which the rows of a table begin, and the line above it of what all rows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.table import Table

from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import MISSING
from vnbench.records.spec import LEVERS, TrialSpec

NUMBER_LEVERS = ("batch_size", "micro_batch_size", "num_workers")


def shared_levers(specs: Sequence[TrialSpec], *, trials: str = "trials") -> str:
    """Return what all of some trials have in common as one sentence."""
    differing = varying(specs)
    names = [name for name in worth_naming(specs) if name not in differing]
    return f"All {trials}: {describe(specs[0], names=names)}."


def add_lever_columns(table: Table, names: Sequence[str]) -> None:
    """Add a column per named lever; words fold where the console is narrow, numbers do not."""
    for name in names:
        is_number = name in NUMBER_LEVERS
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(LEVERS[name].header, justify=justify, no_wrap=is_number, overflow="fold")


def lever_cells(names: Sequence[str], spec: TrialSpec) -> list[str]:
    """Return the values of the named levers as they stand in their columns."""
    return [_cell(name, spec) for name in names]


def _cell(name: str, spec: TrialSpec) -> str:
    if name == "micro_batch_size":
        return str(spec.micro_batch_size)
    value = LEVERS[name].value(spec)
    return MISSING if value is None else str(value)
