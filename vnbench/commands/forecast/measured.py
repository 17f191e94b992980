"""Measured records of cards that are forecast: in results files that are named, or that lie where a sweep puts them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from vnbench.errors import InputError
from vnbench.forecast.cards import is_called
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.results_files import in_folder, results_files
from vnbench.records.spec.trial_spec import ForecastSpec
from vnbench.records.store import load_each, load_results
from vnbench.texts import lines_of

RESULTS = Path("results")
"""Where sweeps put a folder per device."""


def measured_beside(out: Path, *, cards: Collection[str], given: Sequence[Path]) -> list[TrialRecord]:
    """Return the records of the ``given`` files, and of those near: beside ``out``, and in the folders of the cards.

    Of files near, only those are read that begin with a forecast or a trial on one of the cards.

    Raises:
        InputError: a given file cannot be read.
    """
    named = results_files(given)
    known = {path.resolve() for path in named}
    near = [path for path in _near(out, cards) if path.resolve() not in known and _begins_on(path, cards)]
    return [record for part in (*load_each(named), *map(load_results, near)) for record in part.records]


def _near(out: Path, cards: Collection[str]) -> Iterator[Path]:
    folders = [out.parent, *(sorted(RESULTS.iterdir()) if RESULTS.is_dir() else ())]
    for folder in folders:
        is_of_card = any(is_called(folder.name, card) for card in cards)
        if folder.is_dir() and (is_of_card or folder == out.parent):
            yield from in_folder(folder)


def _begins_on(path: Path, cards: Collection[str]) -> bool:
    try:
        first = TrialRecord.from_json(next(lines_of(path), b""))
    except (InputError, OSError, ValueError):
        return False
    device = first.environment.get("device_name") or ""
    return is_of_kind(first, ForecastSpec) or any(is_called(device, card) for card in cards)
