"""The sides of a gate from whatever files hold them: results, a baseline file, or pytest-benchmark's JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.sides import Side, side_of
from vnbench.commands.gate.baseline_file import is_baseline, read_baseline
from vnbench.commands.gate.pytest_benchmark import is_pytest_benchmark, side_of_benchmarks
from vnbench.errors import GateError, InputError
from vnbench.output.words.commands import options_of_specs, sweep_command
from vnbench.records.readings import Metric
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_results

MAX_DOCUMENT_BYTES = 256 * 2**20
"""Longest JSON document that is read; pytest-benchmark's with all rounds of a hundred benchmarks have 20 MB."""


def load_records(path: Path) -> tuple[tuple[TrialRecord, ...], tuple[str, ...]]:
    """Return the records of a results file, or of all in a folder, and what could not be read of them.

    Raises:
        InputError: a file cannot be read, or there is none.
    """
    loaded = [load_results(one) for one in results_files(path, suffixes=(".jsonl",))]
    return (
        tuple(record for part in loaded for record in part.records),
        tuple(note for part in loaded for note in part.notes),
    )


def load_candidate(path: Path) -> Side:
    """Return what a results file, pytest-benchmark's JSON, or a folder of either says.

    Raises:
        InputError: it cannot be read, or holds nothing.
    """
    documents = _documents(path)
    if documents:
        _refuse_baseline(documents, path)
        return side_of_benchmarks(documents, path=path)
    records, notes = load_records(path)
    if not records:
        raise InputError(
            str(path),
            allowed=f"there is no record in it{f' ({notes[0]})' if notes else ''}",
            remedy="name the records of a sweep",
        )
    return side_of(records, notes=notes)


def load_baseline(path: Path, *, candidate: Side, metrics: Collection[Metric]) -> Side:
    """Return the baseline for a candidate: that of its device, where a baseline file has several.

    Where no times are compared, a device of the same type will do.

    Raises:
        GateError: there is no such file, or nothing in it for the candidate's device.
        InputError: it cannot be read.
    """
    if not path.exists():
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
    documents = _documents(path)
    return documents[0] if len(documents) == 1 and is_baseline(documents[0]) else None


def _documents(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Return the JSON documents of a file, or of a folder without results files; empty where records stand there."""
    if path.is_dir() and any(path.glob("*.jsonl")):
        return ()
    if not path.is_dir() and path.suffix != ".json":
        return ()
    return tuple(_document(one) for one in results_files(path, suffixes=(".json",)))


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
            "CANDIDATE", path, allowed="a baseline file is no candidate", remedy="name the records that were measured"
        )


def results_files(path: Path, *, suffixes: tuple[str, ...]) -> list[Path]:
    """Return a file, or those of a folder that end so.

    Raises:
        InputError: the folder holds none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.suffix in suffixes)
    if not found:
        raise InputError(
            str(path), allowed="there is no results file in this folder", remedy="name a .jsonl file or its folder"
        )
    return found
