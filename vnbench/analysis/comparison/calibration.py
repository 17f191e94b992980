"""Calibrate the gate on a machine: compare sweeps of one revision with each other (A/A).

This gives the rate of false alarms, the spread between whole sweeps, and the number of processes needed to find a
change of a given size.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import betaincinv

from vnbench.analysis.comparison.ratios import FAMILY_ERROR, compare_times
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import Side, SideFigure, figure_of
from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.statistics.shrinkage import MAX_WEIGHT, Prior, fit_prior

NUM_RELABELLINGS = 1000
"""Number of random splits of one revision's processes into two sides; 10 false alarms among them are 1 %."""

MAX_PROCESSES = 10_000
"""Largest number of processes that is considered; beyond it a change counts as impossible to find."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The behaviour of the gate on this machine, from sweeps of one revision."""

    num_rows: int
    """Configurations with a time in every sweep and at least two processes per side."""
    num_processes: int
    """Processes per side in the relabelled comparisons, for the row with the fewest."""
    num_comparisons: int
    """Relabelled comparisons."""
    num_false_alarms: int
    """Relabelled comparisons that found a regression."""
    num_sweep_pairs: int
    """Ordered pairs of whole sweeps."""
    num_sweep_alarms: int
    """Pairs of sweeps that would find a regression, if sweeps of one revision were alike."""
    process_spread: float
    """Relative standard deviation between processes of one configuration in one sweep, median over the rows."""
    largest_process_spread: float
    """The same for the noisiest row."""
    sweep_spread: float | None
    """Relative standard deviation between whole sweeps that their processes do not explain; None with one sweep."""
    spreads: Mapping[str, float]
    """Relative standard deviation between processes, by configuration."""
    detect: float
    """Slowdown to find."""
    processes_all_rows: int | None
    """Processes per side that find it in the mean of all rows with probability POWER; None if no number does."""
    processes_one_row: int | None
    """The same for a single row of median noise."""
    processes_noisiest_row: int | None
    """The same for the noisiest row."""

    @property
    def false_alarm_interval(self) -> tuple[float, float]:
        """The 95 % interval of the share of false alarms (Clopper and Pearson, Biometrika 26, 1934)."""
        found, total = self.num_false_alarms, self.num_comparisons
        low = float(betaincinv(found, total - found + 1, 0.025)) if found else 0.0
        high = float(betaincinv(found + 1, total - found, 0.975)) if found < total else 1.0
        return low, high


def calibrate(sweeps: Sequence[Side], *, detect: float, tolerances: Tolerances, seed: int) -> Calibration | None:
    """Return the calibration from sweeps of one revision; None if no configuration has enough processes.

    The processes of each sweep are split at random into two equal sides; an odd one is left out. So differences between
    whole sweeps do not enter the relabelled comparisons. A configuration needs at least two processes per side.
    """
    rows = _common_rows(sweeps)
    usable = {name: parts for name, parts in rows.items() if sum(len(part) // 2 for part in parts) >= 2}
    if not usable:
        return None
    random_ = random.Random(seed)
    alarms = sum(
        is_alarm([_dealt(parts, random_) for parts in usable.values()], tolerance=tolerances.time)
        for _ in range(NUM_RELABELLINGS)
    )
    variances = {name: _within(parts) for name, parts in usable.items()}
    freedoms = {name: float(sum(len(part) - 1 for part in parts)) for name, parts in usable.items()}
    prior = fit_prior(list(variances.values()), list(freedoms.values()))
    spread = _sweep_spread(list(rows.values())) if len(sweeps) > 1 else None
    ordered = sorted(math.sqrt(variance) for variance in variances.values())

    def needed(process_spread: float, *, num_averaged: int) -> int | None:
        return processes_needed(
            process_spread,
            detect=detect,
            tolerance=tolerances.time,
            num_rows=len(usable),
            prior=prior,
            num_averaged=num_averaged,
            sweep_spread=spread or 0.0,
        )

    pairs = [(i, j) for i in range(len(sweeps)) for j in range(len(sweeps)) if i != j]
    sided = [[_whole(parts, i, j) for parts in rows.values()] for i, j in pairs]
    return Calibration(
        num_rows=len(usable),
        num_processes=min(sum(len(part) // 2 for part in parts) for parts in usable.values()),
        num_comparisons=NUM_RELABELLINGS,
        num_false_alarms=alarms,
        num_sweep_pairs=len(pairs),
        num_sweep_alarms=sum(is_alarm(one, tolerance=tolerances.time) for one in sided),
        process_spread=statistics.median(ordered),
        largest_process_spread=ordered[-1],
        sweep_spread=spread,
        spreads={name: math.sqrt(variance) for name, variance in variances.items()},
        detect=detect,
        processes_all_rows=needed(
            math.sqrt(statistics.fmean(variances.values())),
            num_averaged=len(usable),
        ),
        processes_one_row=needed(statistics.median(ordered), num_averaged=1),
        processes_noisiest_row=needed(ordered[-1], num_averaged=1),
    )


def is_alarm(pairs: Sequence[tuple[SideFigure, SideFigure]], *, tolerance: float) -> bool:
    """Return whether the gate finds a regression in pairs of times (baseline, candidate)."""
    compared = compare_times(pairs)
    found = [*compared.rows, *([] if compared.mean is None else [compared.mean])]
    return any(ratio.is_slower(tolerance) for ratio in found)


def processes_needed(
    process_spread: float,
    *,
    detect: float,
    tolerance: float,
    num_rows: int,
    prior: Prior | None = None,
    num_averaged: int = 1,
    sweep_spread: float = 0.0,
) -> int | None:
    """Return the processes per side that find a slowdown of ``detect`` with probability POWER; None if none do.

    ``num_averaged`` is the number of rows that are averaged: 1 for a single row, all for their geometric mean. The
    ``num_rows`` rows and their mean share the error rate.
    """
    level = 1 - FAMILY_ERROR / (1 if num_averaged > 1 else num_rows)
    lent = 0.0 if prior is None else prior.degrees_of_freedom
    for count in range(2, MAX_PROCESSES + 1):
        own = 2.0 * (count - 1)
        within = 2 * process_spread**2 / count / num_averaged
        square = within + 2 * sweep_spread**2
        dof = (own + min(lent, MAX_WEIGHT * own)) * num_averaged * ((square / within) ** 2 if within else 1.0)
        ratio = Ratio(log=Estimate(value=0.0, se=math.sqrt(square), dof=dof), level=level)
        found = ratio.smallest_detectable(tolerance)
        if found is not None and found <= detect:
            return count
    return None


def _common_rows(sweeps: Sequence[Side]) -> dict[str, list[tuple[float, ...]]]:
    """Return the times of each configuration that all sweeps have, sweep by sweep."""
    first, *others = sweeps
    return {
        name: [side.configurations[name].figures["time"].values for side in sweeps]
        for name, configuration in first.configurations.items()
        if all(name in side.configurations and "time" in side.configurations[name].figures for side in (first, *others))
    }


def _dealt(parts: Sequence[Sequence[float]], random_: random.Random) -> tuple[SideFigure, SideFigure]:
    sides: tuple[list[float], list[float]] = ([], [])
    for part in parts:
        half = len(part) // 2
        shuffled = random_.sample(part, 2 * half)
        sides[0].extend(shuffled[:half])
        sides[1].extend(shuffled[half:])
    return figure_of(sides[0], metric="time"), figure_of(sides[1], metric="time")


def _whole(parts: Sequence[Sequence[float]], i: int, j: int) -> tuple[SideFigure, SideFigure]:
    return figure_of(parts[i], metric="time"), figure_of(parts[j], metric="time")


def _within(parts: Sequence[Sequence[float]]) -> float:
    """Return the variance of the logarithm between processes of one sweep, pooled over the sweeps."""
    repeated = [[math.log(value) for value in part] for part in parts if len(part) > 1]
    freedom = sum(len(part) - 1 for part in repeated)
    return sum((len(part) - 1) * statistics.variance(part) for part in repeated) / freedom


def _sweep_spread(rows: Sequence[Sequence[Sequence[float]]]) -> float:
    """Return the standard deviation between sweeps of the mean over all rows, without the part of their processes."""
    num_sweeps = len(rows[0])
    means = [
        statistics.fmean(statistics.fmean(map(math.log, parts[sweep])) for parts in rows) for sweep in range(num_sweeps)
    ]
    explained = statistics.fmean(
        sum(_within(parts) / len(parts[sweep]) for parts in rows if any(len(part) > 1 for part in parts))
        / len(rows) ** 2
        for sweep in range(num_sweeps)
    )
    return math.sqrt(max(0.0, statistics.variance(means) - explained))
