"""Load the records of one corpus from results files: times of small images say nothing about large ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.results_files import results_files
from vnbench.records.store import LoadedResults, load_each, together
from vnbench.units import count


def load_one_corpus(paths: Sequence[Path], *, corpus_id: str | None = None, has_audits: bool = False) -> LoadedResults:
    """Return the records in results files or folders of them.

    All must belong to one corpus, unless ``corpus_id`` chooses one. Compute and memory trials name no corpus; they
    belong to the corpus of their file. If a file holds several corpora, theirs is unknown: if one corpus is chosen,
    these trials are left out with a note. If ``has_audits``, audits alone will do.

    Raises:
        InputError: a file cannot be read, no file holds a record, the files hold several corpora and none was chosen,
            or they do not hold the chosen one.
    """
    paths = results_files(paths)
    parts = load_each(paths)
    loaded = together(parts, paths=paths, has_audits=has_audits)
    found = _files_by_corpus(parts, paths)
    if corpus_id is None:
        if len(found) > 1:
            raise InputError(
                ", ".join(map(str, paths)),
                f"({'; '.join(_described(one, files, loaded.records) for one, files in found.items())})",
                allowed="a forecast or figure needs the records of one corpus",
                remedy=f"give the files of one corpus at a time, or choose one with --corpus-id {next(iter(found))}",
            )
        return _with_note_on_peaks(loaded)
    if corpus_id not in found:
        raise InputError(
            "--corpus-id",
            corpus_id,
            allowed=f"the records name {', '.join(found) or 'no corpus'}",
            remedy=f"write --corpus-id {next(iter(found))}" if found else "leave it out",
        )
    chosen = [_of_corpus(part, path, corpus_id) for part, path in zip(parts, paths, strict=True)]
    return _with_note_on_peaks(together(chosen, paths=paths))


def _with_note_on_peaks(loaded: LoadedResults) -> LoadedResults:
    """Return the same with a note if peaks that were counted in two ways stand side by side."""
    counted = Counter(record.memory.holds_old_gradients for record in loaded.records if record.memory is not None)
    if not counted[True] or not counted[False]:
        return loaded
    note = (
        f"peaks of an older revision ({count(counted[True], 'trial')}) also hold the gradients of the step before, "
        f"those of {count(counted[False], 'trial')} do not: a memory law of both is wrong; give the files of one "
        "revision at a time"
    )
    return replace(loaded, notes=(*loaded.notes, note))


def _corpora(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Return the corpora that the records name, in order of appearance."""
    return tuple(dict.fromkeys(record.corpus_id for record in records if record.corpus_id is not None))


def _files_by_corpus(parts: Sequence[LoadedResults], paths: Sequence[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for part, path in zip(parts, paths, strict=True):
        for corpus_id in _corpora(part.records):
            found.setdefault(corpus_id, []).append(path)
    return found


def _described(corpus_id: str, files: Sequence[Path], records: Sequence[TrialRecord]) -> str:
    """Return a description of a corpus: its files, and the largest canvas of its training trials."""
    canvases = [
        size
        for record in records
        if record.corpus_id == corpus_id and record.steps is not None
        for size in zip(record.steps["canvas_height"], record.steps["canvas_width"], strict=True)
    ]
    where = f"corpus {corpus_id} in {', '.join(map(str, files))}"
    if not canvases:
        return where
    height, width = max(canvases, key=lambda size: size[0] * size[1])
    return f"{where}, up to {height} x {width:,} px"


def _of_corpus(part: LoadedResults, path: Path, corpus_id: str) -> LoadedResults:
    """Return the part of a file that belongs to one corpus; records without a corpus only if the file has no other."""
    corpora = _corpora(part.records)
    if set(corpora) <= {corpus_id}:
        return part
    notes = part.notes
    num_unnamed = sum(record.corpus_id is None for record in part.records)
    if corpus_id in corpora and num_unnamed:
        notes += (
            f"{path}: {count(num_unnamed, 'compute or memory trial')} left out: the file holds several corpora, and "
            "these trials do not name theirs; to measure them again, sweep this corpus into its own file",
        )
    records = tuple(record for record in part.records if record.corpus_id == corpus_id)
    return replace(part, records=records, notes=notes)
