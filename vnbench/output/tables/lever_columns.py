"""The lever columns with which the rows of a table begin, and the line above it of what all rows share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from vnbench.output.view import Column
from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec

Row = TypeVar("Row")

NUMBER_LEVERS = ("batch_size", "micro_batch_size", "num_workers")


def shared_levers(specs: Sequence[TrialSpec], *, trials: str = "trials") -> str:
    """Return what all of some trials have in common as one sentence."""
    differing = varying(specs)
    names = [name for name in worth_naming(specs) if name not in differing]
    return f"All {trials}: {describe(specs[0], names=names)}."


def lever_columns(names: Iterable[str], spec_of: Callable[[Row], TrialSpec]) -> list[Column[Row]]:
    """Return a column per named lever; words fold where the console is narrow, numbers do not."""
    return [_column(name, spec_of) for name in names]


def _column(name: str, spec_of: Callable[[Row], TrialSpec]) -> Column[Row]:
    def value(row: Row) -> Any:
        spec = spec_of(row)
        # Where it is the whole batch it is no lever, and has a value all the same.
        return spec.micro_batch_size if name == "micro_batch_size" else LEVERS[name].value(spec)

    is_number = name in NUMBER_LEVERS
    return Column(
        LEVERS[name].header,
        value,
        key=name,
        align="right" if is_number else "left",
        is_folded=not is_number,
        type=int if is_number else str,
    )
