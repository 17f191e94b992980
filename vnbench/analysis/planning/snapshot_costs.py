"""What a snapshot and a restart cost a run, from records that measured both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.means import mean
from vnbench.analysis.trials.summary import by_spec
from vnbench.records.readings import RestartReading, SnapshotReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import SnapshotSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotCost:
    """What snapshots of one configuration cost, over its processes."""

    spec: SnapshotSpec
    """The configuration."""
    num_processes: int
    """Processes that measured it."""
    num_bytes: int
    """Size of a snapshot."""
    file_system: str | None
    """Type of the file system that held them."""
    cost: Estimate
    """Seconds that training took longer for each snapshot: the mean over pairs of epochs with and without them."""
    held_up_s: float
    """Median seconds for which one held up training; what it slows down afterwards is in ``cost`` alone."""
    written_s: float | None
    """Median seconds until one was on the disk, with nothing beside it; None if unknown."""
    read_s: float | None
    """Median seconds to read and check one; None if unknown."""
    restart: RestartReading | None
    """Mean of what going on takes; None if it was not reached."""

    @property
    def planned_s(self) -> float:
        """Seconds to plan with: the cost, but not less than a snapshot holds up."""
        return max(self.cost.value, self.held_up_s)


def snapshot_costs(latest: Sequence[TrialRecord]) -> tuple[SnapshotCost, ...]:
    """Return the costs of each configuration with snapshot trials that ended ``ok``, in the order of first appearance.

    ``latest`` must hold only the last attempt at each trial.
    """
    found = [_cost([one for one in records if one.status == "ok"]) for records in by_spec(latest, SnapshotSpec)]
    return tuple(one for one in found if one is not None)


def cheapest(costs: Sequence[SnapshotCost]) -> SnapshotCost | None:
    """Return the costs to plan with: the cheapest snapshots of those whose restart was measured; None without any."""
    return min((one for one in costs if one.restart is not None), key=lambda one: one.planned_s, default=None)


def gain_of_async(costs: Sequence[SnapshotCost], one: SnapshotCost) -> Estimate | None:
    """Return the seconds that a snapshot of one configuration saves over the same in mode sync; None without that."""
    if one.spec.snapshot_mode != "async":
        return None
    other = next((it for it in costs if it is not one and _in_sync(it.spec) == _in_sync(one.spec)), None)
    return None if other is None else other.cost.less(one.cost)


def _in_sync(spec: SnapshotSpec) -> SnapshotSpec:
    return replace(spec, snapshot_mode="sync")


def _cost(records: Sequence[TrialRecord[SnapshotSpec]]) -> SnapshotCost | None:
    readings = [record.snapshot for record in records if record.snapshot is not None and record.snapshot.epoch_pairs_s]
    if not readings:
        return None
    written, read = ([s for one in readings for s in getattr(one, name)] for name in ("written_s", "read_s"))
    return SnapshotCost(
        spec=records[0].spec,
        num_processes=len(readings),
        num_bytes=readings[-1].num_bytes,
        file_system=readings[-1].file_system,
        cost=mean([added_s for one in readings for added_s in _added_s(one)]),
        held_up_s=median(s for one in readings for s in one.held_up_s),
        written_s=median(written) if written else None,
        read_s=median(read) if read else None,
        restart=_mean_restart([one.restart for one in readings if one.restart is not None]),
    )


def _added_s(reading: SnapshotReading) -> list[float]:
    """Return the seconds that each pair of epochs gives for a snapshot."""
    return [(with_s - without_s) / reading.num_saves for without_s, with_s in reading.epoch_pairs_s]


def _mean_restart(readings: Sequence[RestartReading]) -> RestartReading | None:
    if not readings:
        return None
    names = RestartReading.__slots__
    return RestartReading(**{name: fmean(getattr(one, name) for one in readings) for name in names})
