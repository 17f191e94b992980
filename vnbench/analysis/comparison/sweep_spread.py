"""Estimate how far whole sweeps of one revision differ, from sides of several sweeps and the history of a baseline.

All rows of a sweep share a warm room, another program or a slower clock, so processes of one sweep do not show it. Two
parts are estimated: the shift that all rows of a sweep share, as the variance of a sweep's mean over its rows, and the
further variance of single rows, pooled over them. Sweeps are only compared with those of their own level: a side, or
the part of a history in which no time changed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SweepTimes = Mapping[str, tuple[float, int]]
"""One sweep: for each row, its geometric mean (s) and the number of its processes."""

Level = Mapping[str, SweepTimes]
"""Sweeps between which nothing changed, by name."""

ASSUMED_SPREAD = 0.04
"""Relative standard deviation between whole sweeps that is assumed where none was measured, and of a single row beyond
that. On a shared machine sweeps differed by 2.8 %, and single rows by 1.2 to 2.4 % more
(reports/gate_cpu-amd-epyc_202611.md)."""

ASSUMED_ROW_SPREAD = 0.024
"""Relative standard deviation of a single row from one sweep to another, beyond that of whole sweeps: the largest that
was measured (reports/gate_cpu-amd-epyc_202611.md)."""

MIN_FREEDOM = 2
"""Fewest degrees of freedom of a spread that is believed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSpread:
    """How far whole sweeps of one revision differ, relative."""

    mean: float
    """Standard deviation of a sweep's mean over its rows, the noise of its processes included."""
    dof: float
    """Degrees of freedom of ``mean``: number of sweeps minus number of levels; infinite where it was told."""
    single: float = 0.0
    """Further standard deviation of a single row, without the noise of its processes."""

    @property
    def is_known(self) -> bool:
        """Whether there are enough sweeps to believe it."""
        return self.dof >= MIN_FREEDOM


def spread_between_sweeps(levels: Sequence[Level], *, process_variances: Mapping[str, float]) -> SweepSpread:
    """Return the spread between the sweeps of all levels, over the rows that every sweep of a level has.

    ``process_variances`` holds the variance of the logarithm between processes for each row to look at.
    """
    means: list[tuple[float, int]] = []
    singles: list[tuple[float, float, int]] = []
    for level in levels:
        sweeps = list(level.values())
        rows = [row for row in process_variances if all(row in sweep for sweep in sweeps)]
        if len(sweeps) < 2 or not rows:
            continue
        logs_SR = [[math.log(sweep[row][0]) for row in rows] for sweep in sweeps]
        means_S = [statistics.fmean(logs_R) for logs_R in logs_SR]
        means.append((statistics.variance(means_S), len(sweeps) - 1))
        if len(rows) < 2:
            continue
        for index, row in enumerate(rows):
            own = [logs_R[index] - mean for logs_R, mean in zip(logs_SR, means_S, strict=True)]
            explained = process_variances[row] * statistics.fmean(1 / sweep[row][1] for sweep in sweeps)
            # Taking away the mean over the rows takes away its share of their variance.
            singles.append((statistics.variance(own) * len(rows) / (len(rows) - 1), explained, len(sweeps) - 1))
    dof = sum(freedom for _, freedom in means)
    return SweepSpread(
        mean=math.sqrt(sum(square * freedom for square, freedom in means) / dof) if dof else 0.0,
        dof=dof,
        single=math.sqrt(max(0.0, _pooled_excess(singles))),
    )


def _pooled_excess(rows: Sequence[tuple[float, float, int]]) -> float:
    total = sum(freedom for _, _, freedom in rows)
    return sum((square - explained) * freedom for square, explained, freedom in rows) / total if total else 0.0
