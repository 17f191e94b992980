"""Use of the CPU cores during a trial by its own processes, by other programs and by other guests of the machine.

It is read from /proc, from outside the measured process. Without /proc nothing is known.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from vnbench.measure.sampling import Span, Stamped, readings_in
from vnbench.records.machine_keys import HostTelemetry

PERIOD_S = 0.2
"""Seconds between two readings: a reading costs well under a millisecond, so less than 1 % of a core."""

MIN_OBSERVED_S = 0.5
"""Minimum time between first and last reading: /proc counts in ticks of 10 ms, and fifty ticks give a quarter of a core
to within about an eighth."""

BUSY_CORES = 0.25
"""Cores used by others from which a trial counts as disturbed: one busy program takes a core, an idle desktop or server
a few percent of one."""

BUSY_SHARE = 0.05
"""Share of all cores from which a trial counts as disturbed, if that is more than BUSY_CORES: the background load of a
large machine grows with its cores, and so does its spare capacity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostReading:
    """Counters of CPU time in core seconds, from an arbitrary start."""

    busy_s: float
    """Busy time of the cores that this process may use, for any program."""
    stolen_s: float
    """Time for which the hypervisor gave those cores to other guests."""
    own_s: float
    """CPU time of the watched process and all its descendants, including those that ended and were waited for."""


class HostReader:
    """Reads /proc/stat and the CPU times of a process tree."""

    def __init__(
        self, *, root_pid: int | None = None, cpus: Set[int] | None = None, proc: Path = Path("/proc")
    ) -> None:
        """``root_pid`` is the tree's root, by default this process; ``cpus`` are the CPUs that it may use."""
        self._root_pid = os.getpid() if root_pid is None else root_pid
        self._cpus = os.sched_getaffinity(0) if cpus is None else cpus
        self._proc = str(proc)
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        root = f"{self._root_pid}/task/{self._root_pid}/children"
        # Kernels without CONFIG_PROC_CHILDREN lack this file; then the parent of every process is read.
        self._has_children_files = self._read(root) is not None

    @property
    def num_cpus(self) -> int:
        """Number of watched CPUs."""
        return len(self._cpus)

    def read(self) -> HostReading | None:
        """Return a reading, or None without /proc."""
        content = self._read("stat")
        if content is None:
            return None
        busy = stolen = 0
        names = {b"cpu%d" % number for number in self._cpus}
        for line in content.splitlines():
            if not line.startswith(b"cpu"):
                break
            name, *values = line.split()
            if name in names:
                user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in values[:8])
                busy += user + nice + system + irq + softirq
                stolen += steal
        return HostReading(
            busy_s=busy / self._ticks_per_s,
            stolen_s=stolen / self._ticks_per_s,
            own_s=sum(self._tree_ticks()) / self._ticks_per_s,
        )

    def _tree_ticks(self) -> Iterator[int]:
        """Yield the CPU time of each process in the tree, including its ended children.

        A child's time moves to its parent when the parent waits for it, so the sum neither loses nor doubles it.
        """
        children = None if self._has_children_files else self._children_by_parent()
        pids = [self._root_pid]
        for pid in pids:
            stat = self._read(f"{pid}/stat")
            if stat is None:
                continue  # it has just ended
            fields = stat.rpartition(b")")[2].split()
            yield sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
            pids += self._children_of(pid) if children is None else children.get(pid, [])

    def _children_of(self, pid: int) -> list[int]:
        try:
            threads = os.listdir(f"{self._proc}/{pid}/task")
        except OSError:
            return []
        files = (self._read(f"{pid}/task/{thread}/children") for thread in threads)
        return [int(child) for content in files if content is not None for child in content.split()]

    def _children_by_parent(self) -> dict[int, list[int]]:
        children: dict[int, list[int]] = {}
        for name in os.listdir(self._proc):
            stat = self._read(f"{name}/stat") if name.isdigit() else None
            if stat is not None:
                parent = int(stat.rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
        return children

    def _read(self, name: str) -> bytes | None:
        try:
            with open(f"{self._proc}/{name}", "rb") as file:
                return file.read()
        except OSError:
            return None


def summarise_host(
    readings: Sequence[Stamped[HostReading]], *, num_cpus: int, measured: Span | None
) -> HostTelemetry | None:
    """Return the ``host`` part of a record's telemetry; None without readings.

    It holds the mean number of cores used by the trial's own processes, by other programs and by other guests between
    the first and the last reading in the ``measured`` span, or of all readings if that is None. The means are None if
    these readings are less than MIN_OBSERVED_S apart.
    """
    if not readings:
        return None
    # The time of a process that nobody waited for disappears from the sum: keep the sum from falling.
    own_s = itertools.accumulate((item.reading.own_s for item in readings), max)
    own_s_at = dict(zip((item.at_s for item in readings), own_s, strict=True))
    chosen = readings_in(readings, measured)
    observed_s = chosen[-1].at_s - chosen[0].at_s if chosen else 0.0
    summary: HostTelemetry = {
        "num_cpus": num_cpus,
        "num_readings": len(chosen),
        "period_s": PERIOD_S,
        "observed_s": observed_s,
        "own_busy_cores": None,
        "other_busy_cores": None,
        "stolen_cores": None,
    }
    if observed_s >= MIN_OBSERVED_S:
        first, last = chosen[0], chosen[-1]
        own = (own_s_at[last.at_s] - own_s_at[first.at_s]) / observed_s
        busy = (last.reading.busy_s - first.reading.busy_s) / observed_s
        stolen = (last.reading.stolen_s - first.reading.stolen_s) / observed_s
        summary["own_busy_cores"] = own
        summary["other_busy_cores"] = max(0.0, busy - own)
        summary["stolen_cores"] = max(0.0, stolen)
    return summary


def busy_threshold(num_cpus: int) -> float:
    """Return the number of cores that others may use before a measurement counts as disturbed."""
    return max(BUSY_CORES, BUSY_SHARE * num_cpus)


def watch_host(duration_s: float) -> HostTelemetry | None:
    """Watch the cores for ``duration_s`` seconds and return the summary of ``summarise_host``."""
    reader = HostReader()
    readings: list[Stamped[HostReading]] = []
    for pause_s in (0.0, duration_s):
        time.sleep(pause_s)
        at_s = time.monotonic()
        reading = reader.read()
        if reading is not None:
            readings.append(Stamped(at_s=at_s, reading=reading))
    return summarise_host(readings, num_cpus=reader.num_cpus, measured=None)
