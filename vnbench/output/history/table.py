"""What changed in a history, in lines for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vnbench.analysis.comparison.history import MIN_SWEEPS, History
from vnbench.output.gate.words import change, named
from vnbench.output.view import Column, View
from vnbench.records.readings import Metric
from vnbench.units import count

ALL = "all"
"""Stands for the configurations where all changed alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeLine:
    """A change of all configurations, or of one, at a revision."""

    spec_id: str
    """Identity of the configuration, or ALL."""
    name: str
    """What it is called."""
    metric: Metric
    """The metric."""
    revision: str
    """The first that has the change."""
    before_revision: str
    """The one before it."""
    ratio: float | None
    """The figure after over the figure before; None for a status."""
    interval: tuple[float, float] | None
    """The 95 % interval of a ratio of times; None where there is none."""


def change_lines(history: History) -> Sequence[ChangeLine]:
    """Return the changes of a history, in the order of revisions."""
    names = named({one.row: one.spec for one in history.rows})
    return [
        ChangeLine(
            spec_id=spec_id,
            name=name,
            metric=found.metric,
            revision=history.revisions[found.at].name,
            before_revision=history.revisions[found.at - 1].name,
            ratio=ratio,
            interval=interval,
        )
        for found in history.changes
        for spec_id, name, ratio, interval in (
            [(ALL, "all configurations", found.ratio, found.interval)]
            if found.is_common
            else [(row.row, names.get(row.row, row.row), row.ratio, row.interval) for row in found.rows]
        )
    ]


def change_view(lines: Sequence[ChangeLine]) -> View[ChangeLine]:
    """Return changes as a table."""
    return View(
        lines,
        (
            Column("revision", lambda line: line.revision, align="left"),
            Column("configuration", lambda line: line.name, align="left", is_folded=True),
            Column("metric", lambda line: line.metric, align="left"),
            Column("change", lambda line: None if line.ratio is None else change(line.ratio)),
            Column("interval", lambda line: line.interval, text=lambda ends: " to ".join(map(change, ends))),
            Column("before", lambda line: line.before_revision, align="left", gives_way=1),
        ),
    )


def summary(history: History) -> str:
    """Return in one sentence what came of a machine's history."""
    revisions = count(len(history.revisions), "revision")
    if len(history.revisions) < 2:
        return f"{revisions}: there is nothing to compare it with."
    points = len({found.at for found in history.changes})
    found = f"Something changed at {points} of {revisions}" if points else f"Nothing changed in {revisions}"
    return f"{found}; times were not compared." if _lacks_sweeps(history) else f"{found}."


def notes_of(history: History) -> Sequence[str]:
    """Return what keeps a history from being told whole."""
    notes = [note for revision in history.revisions for note in revision.side.notes]
    if len(history.revisions) > 1 and _lacks_sweeps(history):
        sweeps = sum(len(revision.times) for revision in history.revisions)
        notes.append(
            f"Changes of times were not looked for: {count(sweeps, 'sweep')} cannot tell them from chance, "
            f"{MIN_SWEEPS} can. Measure each revision more often, or more revisions."
        )
    gaps = {one.row for one in history.rows if one.metric == "time" and None in one.figures}
    if gaps:
        notes.append(
            f"{count(len(gaps), 'configuration')} not timed in every revision: compared where there are times."
        )
    return list(dict.fromkeys(notes))


def _lacks_sweeps(history: History) -> bool:
    """Return whether there are times, but too few sweeps to tell a change of them from chance."""
    return not history.has_times and any(one.metric == "time" for one in history.rows)
