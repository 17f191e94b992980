"""The sides of a gate from whatever files hold them: results, a baseline file, or pytest-benchmark's JSON."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.sides import Side, side_of
from vnbench.commands.gate.baseline_file import is_baseline, read_baseline
from vnbench.commands.gate.pytest_benchmark import is_pytest_benchmark, side_of_benchmarks
from vnbench.errors import GateError, InputError
from vnbench.output.words.commands import options_of_specs, sweep_command
from vnbench.records.readings import Metric
from vnbench.records.record import TrialRecord
from vnbench.records.results_files import in_folder, results_files
from vnbench.records.store import load_each

STORED_RUN = re.compile(r"\d{4,}_")
"""Begins the name of each run that pytest-benchmark stores: its number, in the order of time."""

MAX_DOCUMENT_BYTES = 256 * 2**20
"""Longest JSON document that is read; pytest-benchmark's with all rounds of a hundred benchmarks have 20 MB."""


def load_sweeps(path: Path) -> tuple[tuple[tuple[TrialRecord, ...], ...], tuple[str, ...]]:
    """Return the records of a results file, or of each in a folder or of a pattern, and what could not be read of them.

    Raises:
        InputError: a file cannot be read, or there is none.
    """
    loaded = load_each(results_files([path]))
    return (
        tuple((*part.records, *part.audits) for part in loaded if part.records or part.audits),
        tuple(note for part in loaded for note in part.notes),
    )


def load_candidate(path: Path) -> Side:
    """Return what a results file, pytest-benchmark's JSON, or a folder of either says.

    Raises:
        InputError: it cannot be read, or holds nothing.
    """
    files = _json_files(path)
    if files:
        documents = [_document(one) for one in files]
        _refuse_baseline(documents, path)
        about = str(files[0].relative_to(path)) if path in files[0].parent.parents else ""
        return replace(side_of_benchmarks(documents, path=path), about=about)
    sweeps, notes = load_sweeps(path)
    if not sweeps:
        raise InputError(
            str(path),
            allowed=f"there is no record in it{f' ({notes[0]})' if notes else ''}",
            remedy="name the records of a sweep",
        )
    return side_of(*sweeps, notes=notes)


def load_baseline(path: Path, *, candidate: Side, metrics: Collection[Metric]) -> Side:
    """Return the baseline for a candidate: that of its device, where a baseline file has several.

    Where no times are compared, a device of the same type will do.

    Raises:
        GateError: there is no such file, or nothing in it for the candidate's device.
        InputError: it cannot be read.
    """
    if not path.exists() and not glob.has_magic(str(path)):
        specs = [one.spec for one in candidate.configurations.values() if one.spec is not None]
        made = (
            f"vnbench gate {path} CANDIDATE --update"
            if path.suffix == ".json"
            else sweep_command(options_of_specs(specs), {"out": str(path)})
        )
        raise GateError(f"{path}: there is no baseline; make one with: {made}")
    document = _baseline_document(path)
    if document is None:
        return load_candidate(path)
    sides = read_baseline(document, path=path)
    device = device_of(candidate)
    if device in sides:
        return sides[device]
    if "time" not in metrics:
        kinds = candidate.keys.get("device type")
        for side in sides.values():
            if side.keys.get("device type") == kinds:
                return side
    raise GateError(
        f"{path}: it has no baseline for {device}, but for {', '.join(sides) or 'no device'}; "
        "add one with vnbench gate BASELINE CANDIDATE --update"
    )


def baseline_sides(path: Path) -> Mapping[str, Side]:
    """Return all sides of the baseline file that an update goes to; empty where there is no file yet.

    Raises:
        InputError: the file holds something else.
    """
    if not path.exists():
        if path.suffix != ".json":
            raise InputError(
                "--update", path, allowed="a baseline file is JSON", remedy=f"write {path.with_suffix('.json')}"
            )
        return {}
    document = _baseline_document(path)
    if document is None:
        raise InputError(
            "--update",
            path,
            allowed="this is no baseline file, and records are not overwritten",
            remedy="name a .json file that is not there yet",
        )
    return read_baseline(document, path=path)


def device_of(side: Side) -> str:
    """Return the name of a side's device.

    Raises:
        InputError: it has records of several.
    """
    names = side.keys.get("device", ())
    if len(names) > 1:
        raise InputError(
            "CANDIDATE",
            f"({', '.join(names)})",
            allowed="one side of a gate holds the records of one device",
            remedy="give the files of one device at a time",
        )
    return names[0] if names else "unknown device"


def _baseline_document(path: Path) -> Mapping[str, Any] | None:
    files = _json_files(path)
    document = _document(files[0]) if len(files) == 1 else None
    return document if is_baseline(document) else None


def _json_files(path: Path) -> tuple[Path, ...]:
    """Return the JSON documents that a path names; none where it names results files.

    Of a folder where pytest-benchmark stores its runs, a folder per machine, the newest run counts.

    Raises:
        InputError: it names nothing that is read, or such a folder has runs of several machines.
    """
    if not path.is_dir():
        return results_files([path]) if path.suffix == ".json" else ()
    if in_folder(path):
        return ()
    machines = [one for one in sorted(path.iterdir()) if one.is_dir() and _stored_runs(one)]
    if in_folder(path, suffixes=(".json",)) or not machines:
        return results_files([path], suffixes=(".json",))
    if len(machines) > 1:
        raise InputError(
            str(path),
            f"({', '.join(one.name for one in machines)})",
            allowed="it holds runs of several machines",
            remedy=f"name a run of one of them, as {_stored_runs(machines[0])[-1]}",
        )
    return _stored_runs(machines[0])[-1:]


def _stored_runs(folder: Path) -> tuple[Path, ...]:
    return tuple(one for one in in_folder(folder, suffixes=(".json",)) if STORED_RUN.match(one.name))


def _document(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise InputError(
                str(path), allowed=f"it has more than {MAX_DOCUMENT_BYTES:,} bytes", remedy="name the right file"
            )
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            str(path), allowed=error.strerror or "not readable", remedy="name a baseline or results file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            str(path), allowed=f"this is not JSON ({error})", remedy="name a baseline or results file"
        ) from error
    if not is_baseline(document) and not is_pytest_benchmark(document):
        raise InputError(
            str(path),
            allowed="this is neither a baseline file nor pytest-benchmark's JSON",
            remedy="name a .jsonl file for records of vnbench sweep",
        )
    found: Mapping[str, Any] = document
    return found


def _refuse_baseline(documents: Sequence[Mapping[str, Any]], path: Path) -> None:
    if any(map(is_baseline, documents)):
        raise InputError(
            "CANDIDATE",
            path,
            allowed="a baseline file cannot be the candidate",
            remedy="name the records that were measured",
        )
