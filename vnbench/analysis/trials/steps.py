"""Give access to the steps of a trial as arrays, and select the measured and counted steps."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vnbench.records.record import TrialRecord
from vnbench.records.values.once import once_per_object

Canvas = tuple[int, int]
"""Height and width in pixels."""

Column = NDArray[Any]
"""One value per step; a missing value is nan."""


class _Columns(dict[str, Column]):
    """The columns of a record, each converted to an array at first use."""

    def __init__(self, raw: Mapping[str, tuple[Any, ...]]) -> None:
        super().__init__()
        self._raw = raw
        self.names = raw.keys()
        self.with_holes: set[str] = set()

    def __missing__(self, name: str) -> Column:
        values = self._raw[name] if self._raw else ()
        num_missing = 0
        try:
            values_S = np.array(values)
            if values_S.dtype.kind == "O" and (num_missing := values.count(None)):
                values_S = np.array([math.nan if value is None else value for value in values])
        except ValueError:  # a list among numbers
            values_S = np.array(None)
        if values_S.dtype.kind not in "biuf" or np.count_nonzero(np.isnan(values_S)) != num_missing:
            raise TypeError(f"column {name} holds a value that is not a number")
        if num_missing:
            self.with_holes.add(name)
        self[name] = values_S
        return values_S


class Steps:
    """A selection of the steps of a trial, in their order."""

    def __init__(self, columns: _Columns, rows_S: NDArray[np.intp] | None = None) -> None:
        """Select the rows ``rows_S`` of ``columns``; None selects all."""
        self._columns = columns
        self._rows_S = rows_S

    def __getitem__(self, name: str) -> Column:
        """Return a column.

        Raises:
            KeyError: the record lacks the column.
            TypeError: the column holds a value that is not a number.
        """
        values_S = self._columns[name]
        return values_S if self._rows_S is None else values_S[self._rows_S]

    def __contains__(self, name: object) -> bool:
        """Return whether the record has a column."""
        return name in self._columns.names

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self["is_warm_up"] if self._rows_S is None else self._rows_S)

    def where(self, is_chosen_S: Column) -> Steps:
        """Return the steps for which the mask is true."""
        chosen_S = np.flatnonzero(is_chosen_S)
        return Steps(self._columns, chosen_S if self._rows_S is None else self._rows_S[chosen_S])

    @functools.cached_property
    def warm_up(self) -> Steps:
        """The warm-up steps."""
        return self.where(self["is_warm_up"])

    @functools.cached_property
    def measured(self) -> Steps:
        """The steps after warm-up."""
        return self.where(self["is_warm_up"] == 0)

    @functools.cached_property
    def counted(self) -> Steps:
        """The measured steps without those that the gradient scaler skipped or in which a snapshot was saved."""
        measured = self.measured
        is_left_out_S = measured["is_skipped_by_scaler"] != 0
        if "is_snapshot" in measured:
            is_left_out_S = is_left_out_S | (measured["is_snapshot"] != 0)
        return measured.where(~is_left_out_S)

    @property
    def num_skipped(self) -> int:
        """The number of measured steps that the gradient scaler skipped."""
        return int(np.count_nonzero(self.measured["is_skipped_by_scaler"]))

    @functools.cached_property
    def by_canvas(self) -> Mapping[Canvas, Steps]:
        """The steps on each canvas, in the order of first appearance."""
        return dict(self._groups("canvas_height", "canvas_width"))

    @property
    def by_block(self) -> tuple[Steps, ...]:
        """The steps of each synchronised block, in order; the first records lack the column and have one block."""
        try:
            return tuple(steps for _, steps in self._groups("block"))
        except KeyError:
            return (self,)

    def _groups(self, *names: str) -> Iterator[tuple[Any, Steps]]:
        places_of: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for place, key in enumerate(self.rows(*names)):
            places_of[key].append(place)
        rows_S = np.arange(len(self)) if self._rows_S is None else self._rows_S
        return ((key, Steps(self._columns, rows_S[places])) for key, places in places_of.items())

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the values of several columns, one tuple per step."""
        return list(zip(*(self[name].tolist() for name in names), strict=True))

    def known(self, name: str) -> list[float]:
        """Return the values of a column; an empty list if any value is missing, because a sum would be wrong."""
        values_S = self[name]
        is_whole = name not in self._columns.with_holes or not np.isnan(values_S).any()
        return values_S.tolist() if is_whole else []

    def total(self, name: str) -> float:
        """Return the exact sum of a column, rounded once."""
        return math.fsum(self[name].tolist())


@once_per_object
def steps_of(record: TrialRecord) -> Steps:
    """Return the steps of a record, warm-up included; empty if no step ended."""
    return Steps(_Columns(record.steps or {}))
