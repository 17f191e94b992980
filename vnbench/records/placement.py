"""Choose the results file of a sweep: one file holds the records of one machine, one version and one corpus."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vnbench.records.machine_keys import Environment, differences
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_results


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the records of a sweep go."""

    path: Path
    """The requested file, or a numbered file beside it."""
    notes: tuple[str, ...]
    """One line for each file that holds other records: what differs, and which file is used instead."""


def place_results(path: Path, *, environment: Environment, corpus_id: str | None = None) -> Placement:
    """Return the first of FILE.jsonl, FILE.2.jsonl, FILE.3.jsonl and so on that can take these records.

    This is the first file that does not exist or holds no record of another machine, version or corpus. So the same
    command continues the same file on each machine. Nothing is written.

    Raises:
        InputError: one of the files cannot be read.
    """
    passed: list[tuple[Path, str]] = []
    for number in itertools.count(1):
        candidate = _numbered(path, number)
        # A path that is not a regular file is passed on: the code that opens it reports what is wrong.
        loaded = load_results(candidate) if candidate.is_file() else None
        records = (*loaded.probes, *loaded.records) if loaded else ()
        difference = _difference(records, environment, corpus_id)
        if difference is None:
            notes = tuple(f"{other} holds other records ({why}); these go to {candidate}" for other, why in passed)
            return Placement(path=candidate, notes=notes)
        passed.append((candidate, difference))
    raise AssertionError("the numbers have no end")


def placed(path: Path) -> tuple[Path, ...]:
    """Return the results file and its numbered files of ``place_results`` that exist; if none, the path alone."""
    first = (path,) if path.is_file() else ()
    beside = itertools.takewhile(Path.is_file, (_numbered(path, number) for number in itertools.count(2)))
    return (*first, *beside) or (path,)


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def _difference(records: Sequence[TrialRecord], environment: Environment, corpus_id: str | None) -> str | None:
    """Return how the first foreign record differs from the environment and corpus; None if there is none."""
    for record in records:
        # A trial that died before it could read its environment has the environment of its sweep.
        found = [*differences(record.environment, environment)]
        there = record.corpus_id
        if corpus_id is not None and there is not None and there != corpus_id:
            found.append(f"corpus {there} there, {corpus_id} here")
        if found:
            return ", ".join(found)
    return None
