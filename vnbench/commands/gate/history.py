"""``vnbench gate --history``: what changed at which revision, from the records of many."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from vnbench.analysis.comparison.history import History, Revision, by_machine, history_of, lasting
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import side_of
from vnbench.commands.gate.against.revisions import git
from vnbench.commands.gate.inputs import load_sweeps
from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.fitted_table import FittedTable
from vnbench.output.history.table import change_lines, change_view, notes_of, summary
from vnbench.output.words.provenance import provenance
from vnbench.records.machine_keys import FILE_KEYS
from vnbench.records.readings import Metric
from vnbench.records.record import TrialRecord
from vnbench.units import count

COMMIT = re.compile(r"([0-9a-f]{7,40})(\+.*)?")
"""A revision that is a commit, with a digest of what differs from it."""

MACHINE_KEYS = tuple(key for key in FILE_KEYS if key != "revision")


def run_history_command(
    folder: Path, *, out: Path | None, tolerances: Tolerances, metrics: Collection[Metric], as_json: bool
) -> tuple[int, dict[str, Any]]:
    """Tell what changed in a folder of records, unless stdout is kept for JSON, and draw it where a folder is given.

    Returns the exit code, 3 where no machine has two revisions, and the answer as JSON values.

    Raises:
        InputError: the folder holds no records, or ``out`` cannot be written to.
    """
    if not folder.is_dir():
        raise InputError(
            "--history", folder, allowed="this is no folder", remedy="name the folder of the results files"
        )
    sweeps, notes = load_sweeps(folder)
    if not sweeps:
        raise InputError(
            "--history",
            folder,
            allowed=f"there is no record in it{f' ({notes[0]})' if notes else ''}",
            remedy="name the folder of the results files",
        )
    read = [(_revision(key, found), found) for key, found in _sweeps_by_revision(sweeps).items()]
    revisions = _in_order([revision for revision, _ in read])
    histories = [history_of(part, tolerances=tolerances, metrics=metrics) for part in by_machine(revisions)]
    for note in notes:
        say(stderr_console(), f"note: {note}")
    if not as_json:
        _tell(histories)
    if out is not None:
        _draw(histories, read, out=out)
    code = 0 if any(len(history.revisions) > 1 for history in histories) else 3
    return code, {"machines": [_as_json(history) for history in histories], "notes": list(notes)}


Key = tuple[str, str | None, str]
"""Revision, text of the user's own network, machine."""


def _sweeps_by_revision(sweeps: Sequence[Sequence[TrialRecord]]) -> dict[Key, list[list[TrialRecord]]]:
    """Return the sweeps of each revision, network text and machine, without copies."""
    found: dict[Key, list[list[TrialRecord]]] = {}
    seen: set[tuple[Key, str, str]] = set()
    for sweep in sweeps:
        parts: dict[Key, list[TrialRecord]] = {}
        for record in sweep:
            facts = record.environment
            machine = str([facts.get(name) for name in MACHINE_KEYS])
            key = (str(facts.get("revision") or "unknown"), record.spec.model_id, machine)
            identity = (key, record.trial_id, record.started_at)
            if identity not in seen:
                seen.add(identity)
                parts.setdefault(key, []).append(record)
        for key, records in parts.items():
            found.setdefault(key, []).append(records)
    return found


def _revision(key: Key, sweeps: Sequence[Sequence[TrialRecord]]) -> Revision:
    name, model_id, _ = key
    return Revision(
        name=name,
        model_id=model_id,
        started_at=min(record.started_at for sweep in sweeps for record in sweep),
        side=lasting(side_of(*sweeps)),
    )


def _in_order(revisions: Sequence[Revision]) -> list[Revision]:
    """Return the revisions as their commits follow each other where git knows all of them, and otherwise by time."""
    commits = (git(Path.cwd(), "rev-list", "--topo-order", "--reverse", "--all") or "").split()
    names = [match.group(1) if (match := COMMIT.fullmatch(one.name)) else "" for one in revisions]
    places = {
        commit[:length]: place for length in {len(name) for name in names} for place, commit in enumerate(commits)
    }
    is_known = all(name and name in places for name in names)
    keyed = sorted(
        zip(names, revisions, strict=True),
        key=lambda pair: (places[pair[0]] if is_known else 0, pair[1].started_at),
    )
    return [revision for _, revision in keyed]


def _device(history: History) -> str:
    return ", ".join(history.keys.get("device", ())) or "unknown device"


def _tell(histories: Sequence[History]) -> None:
    console = stdout_console()
    for history in histories:
        lines = change_lines(history)
        if lines:
            console.print(FittedTable(view=change_view(lines).told()), Text())
        for line in (*notes_of(history), f"{_device(history)}: {summary(history)}"):
            say(console, line)


def _draw(
    histories: Sequence[History], read: Sequence[tuple[Revision, Sequence[Sequence[TrialRecord]]]], *, out: Path
) -> None:
    from vnbench.output.history.figure import history_figure
    from vnbench.output.plots.style import save, styled

    for number, history in enumerate(histories, start=1):
        records = [
            record
            for revision, sweeps in read
            if any(one is revision for one in history.revisions)
            for sweep in sweeps
            for record in sweep
        ]
        with styled():
            figure = history_figure(history, origin=provenance(records), trials=count(len(records), "trial"))
            if figure is None:
                continue
            name = "history" if len(histories) == 1 else f"history_{number}"
            try:
                paths = save(figure, out, name=name)
            except OSError as error:
                raise InputError(
                    "--out", out, allowed=error.strerror or "not writable", remedy="name a folder to write to"
                ) from error
        for path in paths:
            say(stderr_console(), f"wrote {path}")


def _as_json(history: History) -> dict[str, Any]:
    return {
        "device": _device(history),
        "revisions": [revision.name for revision in history.revisions],
        "changes": [
            {
                "spec_id": line.spec_id,
                "metric": line.metric,
                "revision": line.revision,
                "before_revision": line.before_revision,
                "ratio": line.ratio,
                "interval": line.interval,
            }
            for line in change_lines(history)
        ],
        "notes": list(notes_of(history)),
    }
