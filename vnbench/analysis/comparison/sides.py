"""Collect one side of a comparison: the figures of each configuration in a set of records, by process.

The unit is the process: the steps of a process are not independent, and each process has its own speed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vnbench.analysis.comparison.metrics import COMPARED
from vnbench.analysis.comparison.sweep_spread import Level
from vnbench.analysis.trials.process import why_not_timed
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.records.machine_keys import SPEED_KEYS, fact_text
from vnbench.records.readings import Metric
from vnbench.records.record import SCHEMA_VERSION, Status, TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count

SMALLEST, LARGEST = 1e-18, 1e18
"""Limits of plausible figures: an attosecond, and an exabyte or more than the age of the universe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFigure:
    """One metric of one configuration, over its processes."""

    value: float
    """For time, the geometric mean over the processes; for other metrics, the largest value."""
    num_processes: int
    """Number of processes."""
    log_variance: float | None
    """Variance of the logarithm between processes of a sweep; None if no sweep has two."""
    dof: int
    """Degrees of freedom of ``log_variance``: processes minus sweeps."""
    smallest: float
    """Smallest value of a process."""
    largest: float
    """Largest value of a process."""
    values: tuple[float, ...] = ()
    """All values in ascending order; empty if only the summary was kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """The data of one side on one configuration."""

    name: str
    """Its spec_id; its name if it has no spec."""
    spec: TrialSpec | None = None
    """The spec; None for a benchmark of another tool."""
    statuses: Mapping[Status, int] = field(default_factory=dict)
    """Number of processes by status."""
    cause: str | None = None
    """Why the first failed process did not end ``ok``, in one line; None if all did."""
    figures: Mapping[Metric, SideFigure] = field(default_factory=dict)
    """The figures; metrics without a valid figure are left out."""
    why_no_time: str | None = None
    """Why a trial that ended ``ok`` has no valid time, in one line; None if it has one."""
    operators: Mapping[str, int] = field(default_factory=dict)
    """Number of runs of each operator in a forecast step; empty for measured trials."""
    findings: tuple[str, ...] = ()
    """Codes of what is wrong with an audited loop, sorted; empty for trials."""
    holds_old_gradients: bool | None = None
    """Whether a peak of its tensors is higher by the gradients of the step before, as older vnbench counted on the CPU;
    None where that is not known, or cannot be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One side of a comparison."""

    keys: Mapping[str, tuple[str, ...]]
    """Facts that must agree with the other side before anything is compared; sorted values by key."""
    configurations: Mapping[str, Configuration]
    """Configurations by spec_id, or by the name of a benchmark."""
    notes: tuple[str, ...] = ()
    """One line for each thing that could not be read. A comparison with notes never passes."""
    about: str = ""
    """Origin of the side in a few words; not compared."""
    levels: Sequence[Level] = ()
    """Times of its sweeps, and of those of its history, by level: between sweeps of a level nothing changed."""
    num_sweeps: int = 1
    """Sweeps that its figures are made of."""


def side_of(*sweeps: Sequence[TrialRecord], notes: Sequence[str] = ()) -> Side:
    """Return the side that the records of one or several sweeps make.

    Figures that are not positive finite numbers are left out and noted. A trial counts once in each sweep.
    """
    records = [record for sweep in sweeps for record in sweep]
    unread = list(notes)
    unread += _repeated(sweeps)
    by_spec: dict[str, dict[str, list[TrialRecord]]] = {}
    for sweep in sweeps:
        begun = min((record.started_at for record in sweep), default="")
        for record in latest_attempts(sweep):
            by_spec.setdefault(record.spec_id, {}).setdefault(begun, []).append(record)
    level: dict[str, dict[str, tuple[float, int]]] = {}
    configurations = {spec_id: _configuration(found, unread, level) for spec_id, found in by_spec.items()}
    return Side(
        keys=_keys([record for record in records if record.audit is None] or records),
        configurations=configurations,
        notes=tuple(unread),
        about=_about(records, num_sweeps=len(sweeps)),
        levels=(level,) if level else (),
        num_sweeps=max(1, len(level)),
    )


def renamed(side: Side, names: Mapping[str, str]) -> Side:
    """Return the side with other names for some of its configurations, in its sweeps too."""
    return replace(
        side,
        configurations={names.get(name, name): one for name, one in side.configurations.items()},
        levels=tuple(
            {sweep: {names.get(name, name): time for name, time in times.items()} for sweep, times in level.items()}
            for level in side.levels
        ),
    )


def figure_of(values: Iterable[float], *, metric: Metric) -> SideFigure:
    """Return the figure of the values of one sweep's processes, which must be positive and finite.

    Raises:
        ValueError: there are no values.
    """
    return figure_of_sweeps([tuple(values)], metric=metric)


def figure_of_sweeps(sweeps: Sequence[Sequence[float]], *, metric: Metric) -> SideFigure:
    """Return the figure of the values of several sweeps' processes, which must be positive and finite.

    Where each sweep has one process, it stands for the process.

    Raises:
        ValueError: there are no values.
    """
    ordered = tuple(sorted(value for sweep in sweeps for value in sweep))
    if not ordered:
        raise ValueError("a figure needs at least one process")
    if max(map(len, sweeps)) == 1:
        sweeps = [ordered]
    repeated = [[math.log(value) for value in sweep] for sweep in sweeps if len(sweep) > 1]
    dof = sum(len(logs) - 1 for logs in repeated)
    square = math.fsum((len(logs) - 1) * statistics.variance(logs) for logs in repeated)
    return SideFigure(
        value=_geometric_mean(ordered) if metric == "time" else ordered[-1],
        num_processes=len(ordered),
        log_variance=square / dof if dof else None,
        dof=dof,
        smallest=ordered[0],
        largest=ordered[-1],
        values=ordered,
    )


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def figures_of(record: TrialRecord, *, notes: list[str]) -> dict[Metric, float]:
    """Return the figures of a trial that ended ``ok``; values that are not positive and finite are noted instead."""
    found = {metric: _read(one.read, record, metric=metric, notes=notes) for metric, one in COMPARED.items()}
    return {metric: value for metric, value in found.items() if value is not None}


def _keys(records: Iterable[TrialRecord]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {"device": set(), "device type": set(), "torch": set(), "corpus": set()}
    for record in records:
        found["device type"].add(record.spec.device)
        for key, name in (("device", "device_name"), ("torch", "torch_version"), *((key, key) for key in SPEED_KEYS)):
            if (value := record.environment.get(name)) is not None:
                found.setdefault(key, set()).add(fact_text(value))
        if record.corpus_id is not None:
            found["corpus"].add(record.corpus_id)
    return {"schema": (str(SCHEMA_VERSION),)} | {key: tuple(sorted(values)) for key, values in found.items()}


def _about(records: Sequence[TrialRecord], *, num_sweeps: int) -> str:
    revisions = sorted({str(found) for record in records if (found := record.environment.get("revision"))})
    dates = sorted({record.started_at[:10] for record in records})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""
    number = count(len(records), "trial") + (f" of {num_sweeps} sweeps" if num_sweeps > 1 else "")
    return ", ".join(filter(None, (f"vnbench {', '.join(revisions)}" if revisions else "", when, number)))


def _repeated(sweeps: Iterable[Sequence[TrialRecord]]) -> list[str]:
    """Return a note for every trial that occurs twice: counted as two processes it would give false certainty.

    Sweeps of one definition have the same trials; those that began at the same moment are copies.
    """
    seen: set[tuple[str, str]] = set()
    twice: dict[str, None] = {}
    for sweep in sweeps:
        own: set[str] = set()
        for record in sweep:
            if record.trial_id in own or (record.trial_id, record.started_at) in seen:
                twice[record.trial_id] = None
            own.add(record.trial_id)
        seen.update((record.trial_id, record.started_at) for record in sweep)
    return [f"trial {trial} occurs more than once" for trial in twice]


def _configuration(
    sweeps: Mapping[str, Sequence[TrialRecord]], notes: list[str], level: dict[str, dict[str, tuple[float, int]]]
) -> Configuration:
    """Return the configuration that the records of some sweeps make, and add its times by sweep to ``level``.

    Sweeps are named by the moment at which they began.
    """
    records = [record for sweep in sweeps.values() for record in sweep]
    statuses: dict[Status, int] = {}
    values: dict[Metric, list[list[float]]] = {}
    why_no_time: str | None = None
    for begun, sweep in sweeps.items():
        own: dict[Metric, list[float]] = {}
        for record in sweep:
            statuses[record.status] = statuses.get(record.status, 0) + 1
            if record.status != "ok":
                continue
            for metric, value in figures_of(record, notes=notes).items():
                own.setdefault(metric, []).append(value)
            if record.kind not in ("memory", "forecast", "audit") and "time" not in own:
                why_no_time = why_no_time or _why_no_time(record)
        for metric, found in own.items():
            values.setdefault(metric, []).append(found)
        if "time" in own:
            level.setdefault(begun, {})[sweep[0].spec_id] = (_geometric_mean(own["time"]), len(own["time"]))
    failed = next((record for record in records if record.status != "ok"), None)
    return Configuration(
        name=records[0].spec_id,
        spec=records[0].spec,
        statuses=statuses,
        cause=None if failed is None else failed.cause.message if failed.cause else "no cause recorded",
        figures={metric: figure_of_sweeps(found, metric=metric) for metric, found in values.items()},
        why_no_time=None if "time" in values else why_no_time,
        operators=next((record.card.operators for record in records if record.card is not None), {}),
        findings=tuple(sorted({one.code for record in records if record.audit for one in record.audit.findings})),
        holds_old_gradients=_holds_old_gradients(records),
    )


def _holds_old_gradients(records: Iterable[TrialRecord]) -> bool | None:
    known = {record.memory.holds_old_gradients for record in records if record.memory is not None} - {None}
    return any(known) if known else None


def _read(
    read: Callable[[TrialRecord], float | None], record: TrialRecord, *, metric: Metric, notes: list[str]
) -> float | None:
    """Return one figure of a record; None if it has none, with a note if its value is not a valid number."""
    try:
        value = read(record)
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and SMALLEST < value < LARGEST:
            return float(value)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        pass  # text instead of numbers, columns of different lengths, an overflow: a record edited by hand
    notes.append(f"trial {record.trial_id}: its {metric} is not a valid number")
    return None


def _why_no_time(record: TrialRecord) -> str:
    try:
        return why_not_timed(record) or "its figures are not positive numbers"
    except (TypeError, LookupError):
        return "its figures are not positive numbers"
