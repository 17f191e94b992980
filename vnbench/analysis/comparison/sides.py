"""One side of a comparison: what a set of records says of each configuration, process by process.

The unit is the process: the steps of one are not independent of each other, and each process has its own speed.
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

SMALLEST, LARGEST = 1e-18, 1e18
"""Figures outside of these are none: an attosecond, and an exabyte or the age of the universe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFigure:
    """One metric of one configuration, over its processes."""

    value: float
    """Of time the geometric mean over the processes, of everything else the largest."""
    num_processes: int
    """Processes that it rests on."""
    log_variance: float | None
    """Variance of the logarithm between processes; None below two."""
    smallest: float
    """Least of them."""
    largest: float
    """Most of them."""
    values: tuple[float, ...] = ()
    """All of them in ascending order; empty where only their summary was kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What one side knows of one configuration."""

    name: str
    """What it is called where it has no spec, and its spec_id where it has one."""
    spec: TrialSpec | None = None
    """What was measured; None for a benchmark of another tool."""
    statuses: Mapping[Status, int] = field(default_factory=dict)
    """Processes by how they ended."""
    cause: str | None = None
    """Why the first of those that did not end ``ok`` did not, in one line."""
    figures: Mapping[Metric, SideFigure] = field(default_factory=dict)
    """What was measured; a metric without a valid figure is left out."""
    why_no_time: str | None = None
    """Why a trial that ended ``ok`` has no valid time, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One side of a comparison."""

    keys: Mapping[str, tuple[str, ...]]
    """What has to agree with the other side before anything is compared, each key with its values, sorted."""
    configurations: Mapping[str, Configuration]
    """By identity: the spec_id, or the name of a benchmark."""
    notes: tuple[str, ...] = ()
    """What could not be read, each in one line. A side with notes passes nothing."""
    about: str = ""
    """Where it comes from, in a few words; nothing is compared by it."""


def side_of(records: Sequence[TrialRecord], *, notes: Sequence[str] = ()) -> Side:
    """Return what some records say. Figures that are no positive finite numbers are left out and noted."""
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
    """Return the figure of some processes' positive finite values.

    Raises:
        ValueError: no values.
    """
    ordered = tuple(sorted(values))
    if not ordered:
        raise ValueError("no processes have no figure")
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
    """Return what one trial says that ended ``ok``; what is no positive finite number is left out and noted."""
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
    number = f"{len(records):,} trial{'' if len(records) == 1 else 's'}"
    return ", ".join(filter(None, (f"revision {', '.join(revisions)}" if revisions else "", when, number)))


def _repeated(records: Iterable[TrialRecord]) -> list[str]:
    """Return a note on every trial that stands there twice: as two processes it would lend a certainty that is none."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for record in records:
        if record.trial_id in seen:
            twice[record.trial_id] = None
        seen.add(record.trial_id)
    return [f"trial {trial} stands there more than once" for trial in twice]


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
        if record.kind != "memory" and "time" not in values:
            why_no_time = why_no_time or _why_no_time(record)
    failed = next((record for record in records if record.status != "ok"), None)
    return Configuration(
        name=records[0].spec_id,
        spec=records[0].spec,
        statuses=statuses,
        cause=None if failed is None else failed.cause.message if failed.cause else "no cause recorded",
        figures={metric: figure_of(found, metric=metric) for metric, found in values.items()},
        why_no_time=why_no_time,
    )


def _read(
    read: Callable[[TrialRecord], float | None], record: TrialRecord, *, metric: Metric, notes: list[str]
) -> float | None:
    """Return one figure of a record; None where it has none, noted where what stands there is no figure."""
    try:
        value = read(record)
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and SMALLEST < value < LARGEST:
            return float(value)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        pass  # text for numbers, columns of different lengths, an overflow: a record that somebody wrote by hand
    notes.append(f"trial {record.trial_id}: its {metric} is no figure")
    return None


def _why_no_time(record: TrialRecord) -> str:
    try:
        return why_not_timed(record) or "its figures are no positive numbers"
    except (TypeError, LookupError):
        return "its figures are no positive numbers"
