"""Collect one side of a comparison: the figures of each configuration in a set of records, by process.

The unit is the process: the steps of a process are not independent, and each process has its own speed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vnbench.analysis.comparison.metrics import COMPARED
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
    """Variance of the logarithm between processes; None below two processes."""
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


def side_of(records: Sequence[TrialRecord], *, notes: Sequence[str] = ()) -> Side:
    """Return the side that the records make. Figures that are not positive finite numbers are left out and noted."""
    unread = list(notes)
    unread += _repeated(records)
    by_spec: dict[str, list[TrialRecord]] = {}
    for record in latest_attempts(records):
        by_spec.setdefault(record.spec_id, []).append(record)
    return Side(
        keys=_keys(records),
        configurations={spec_id: _configuration(found, unread) for spec_id, found in by_spec.items()},
        notes=tuple(unread),
        about=_about(records),
    )


def figure_of(values: Iterable[float], *, metric: Metric) -> SideFigure:
    """Return the figure of the processes' values, which must be positive and finite.

    Raises:
        ValueError: there are no values.
    """
    ordered = tuple(sorted(values))
    if not ordered:
        raise ValueError("a figure needs at least one process")
    logs = [math.log(value) for value in ordered]
    return SideFigure(
        value=math.exp(statistics.fmean(logs)) if metric == "time" else ordered[-1],
        num_processes=len(ordered),
        log_variance=statistics.variance(logs) if len(logs) > 1 else None,
        smallest=ordered[0],
        largest=ordered[-1],
        values=ordered,
    )


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


def _about(records: Sequence[TrialRecord]) -> str:
    revisions = sorted({str(found) for record in records if (found := record.environment.get("revision"))})
    dates = sorted({record.started_at[:10] for record in records})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""
    number = count(len(records), "trial")
    return ", ".join(filter(None, (f"revision {', '.join(revisions)}" if revisions else "", when, number)))


def _repeated(records: Iterable[TrialRecord]) -> list[str]:
    """Return a note for every trial that occurs twice: counted as two processes it would give false certainty."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for record in records:
        if record.trial_id in seen:
            twice[record.trial_id] = None
        seen.add(record.trial_id)
    return [f"trial {trial} occurs more than once" for trial in twice]


def _configuration(records: Sequence[TrialRecord], notes: list[str]) -> Configuration:
    statuses: dict[Status, int] = {}
    values: dict[Metric, list[float]] = {}
    why_no_time: str | None = None
    for record in records:
        statuses[record.status] = statuses.get(record.status, 0) + 1
        if record.status != "ok":
            continue
        for metric, value in figures_of(record, notes=notes).items():
            values.setdefault(metric, []).append(value)
        if record.kind not in ("memory", "forecast") and "time" not in values:
            why_no_time = why_no_time or _why_no_time(record)
    failed = next((record for record in records if record.status != "ok"), None)
    return Configuration(
        name=records[0].spec_id,
        spec=records[0].spec,
        statuses=statuses,
        cause=None if failed is None else failed.cause.message if failed.cause else "no cause recorded",
        figures={metric: figure_of(found, metric=metric) for metric, found in values.items()},
        why_no_time=why_no_time,
        operators=next((record.card.operators for record in records if record.card is not None), {}),
    )


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
