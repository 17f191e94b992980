"""Which results file a sweep goes on with: one file holds the records of one machine, one version and one corpus."""

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
    """The file that was asked for, or one beside it."""
    notes: tuple[str, ...]
    """One line for each file that holds other records, and what differs; it names the file that is taken."""


def place_results(path: Path, *, environment: Environment, corpus_id: str | None = None) -> Placement:
    """Return the first of FILE.jsonl, FILE.2.jsonl, FILE.3.jsonl and so on that these records may go to.

    That is one that is not there yet, or that holds no record of another machine, version or corpus. So the same
    command goes on with the same file, wherever it is given. Nothing is written.

    Raises:
        InputError: one of them cannot be read.
    """
    passed: list[tuple[Path, str]] = []
    for number in itertools.count(1):
        candidate = _numbered(path, number)
        # What is no regular file is left to whoever opens it, and says what is wrong with it.
        loaded = load_results(candidate) if candidate.is_file() else None
        records = (*loaded.probes, *loaded.records) if loaded else ()
        difference = _difference(records, environment, corpus_id)
        if difference is None:
            notes = tuple(f"{other} holds other records ({why}); these go to {candidate}" for other, why in passed)
            return Placement(path=candidate, notes=notes)
        passed.append((candidate, difference))
    raise AssertionError("the numbers have no end")


def placed(path: Path) -> tuple[Path, ...]:
    """Return a results file and those beside it that ``place_results`` began, as far as they are there, or it alone."""
    first = (path,) if path.is_file() else ()
    beside = itertools.takewhile(Path.is_file, (_numbered(path, number) for number in itertools.count(2)))
    return (*first, *beside) or (path,)


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def _difference(records: Sequence[TrialRecord], environment: Environment, corpus_id: str | None) -> str | None:
    """Return in what the first record that does not belong with others differs from them; None where all belong."""
    for record in records:
        # A trial that died before it could look at its machine has the environment that its sweep saw.
        found = [*differences(record.environment, environment)]
        there = record.corpus_id
        if corpus_id is not None and there is not None and there != corpus_id:
            found.append(f"corpus {there} there, {corpus_id} here")
        if found:
            return ", ".join(found)
    return None
