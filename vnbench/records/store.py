"""Read and write results files: one JSON record per line, appended and flushed to disk when a trial ends."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from vnbench.errors import InputError
from vnbench.processes.locks import NoLocksError, try_lock, unlock
from vnbench.records.machine_keys import Environment, differences
from vnbench.records.record import SCHEMA_VERSION, SchemaVersionError, TrialRecord, is_of_kind, of_kind
from vnbench.records.results_files import results_files
from vnbench.records.spec.trial_spec import AuditSpec, ProbeSpec
from vnbench.texts import check_regular, form_of, lines_of
from vnbench.units import count


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedResults:
    """The content of one or several results files."""

    records: tuple[TrialRecord, ...]
    """Records of all trials except probes and audits, in the order of the file."""
    probes: tuple[TrialRecord, ...]
    """Records of probes, which hold the choices of sweeps for the machine."""
    audits: tuple[TrialRecord[AuditSpec], ...] = ()
    """Records of audits of training loops, which measure no cost."""
    notes: tuple[str, ...]
    """One note for each line that could not be read: its number and what is wrong."""
    torn_bytes: int
    """Bytes of an incomplete last line; 0 if the last line is complete."""


def load_results(path: Path) -> LoadedResults:
    """Return the records of a results file, with notes on lines that could not be read.

    Raises:
        InputError: the file is missing, not a regular file, unreadable, or of another schema version.
    """
    if path.is_dir():
        raise InputError(str(path), allowed="this is a folder, not a results file", remedy="name a .jsonl file")
    check_regular(path)
    records: list[TrialRecord] = []
    notes: list[str] = []
    torn_bytes = 0
    for number, line in enumerate(_lines(path), start=1):
        if line.isspace():
            continue
        if not line.endswith(b"\n") and not _is_whole(line):
            torn_bytes = len(line)
            notes.append(f"{path}, line {number}: the last line is torn ({count(torn_bytes, 'byte')}), as after a kill")
            break
        try:
            records.append(TrialRecord.from_json(line, where=f"{path}, line {number}"))
        except SchemaVersionError as error:
            if isinstance(error.version, int):
                raise InputError(
                    f"{path}, line {number}",
                    f"schema version {error.version}",
                    allowed=f"this vnbench reads schema version {SCHEMA_VERSION}",
                    remedy="read it with the vnbench that wrote it, or name another file",
                ) from error
            notes.append(f"{path}, line {number}: left out, {error}")
        except ValueError as error:
            notes.append(f"{path}, line {number}: left out, {error}")
    return LoadedResults(
        records=tuple(record for record in records if not isinstance(record.spec, ProbeSpec | AuditSpec)),
        probes=tuple(of_kind(records, ProbeSpec)),
        audits=tuple(of_kind(records, AuditSpec)),
        notes=tuple(notes),
        torn_bytes=torn_bytes,
    )


def _is_whole(line: bytes) -> bool:
    """Return whether a last line lacks only its newline, which some editors do not write."""
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their newlines, one at a time; all lines of 10,000 records would take 250 MB.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        yield from lines_of(path)
    except OSError as error:
        raise InputError(
            str(path), allowed=error.strerror or "not readable", remedy="name a results file that vnbench sweep wrote"
        ) from error


def load_all(paths: Sequence[Path]) -> LoadedResults:
    """Return the joint content of several results files or folders of them.

    Raises:
        InputError: a file cannot be read, or no file holds a record.
    """
    files = results_files(paths)
    return together(load_each(files), paths=files)


def load_each(paths: Sequence[Path]) -> list[LoadedResults]:
    """Return the content of each results file.

    Raises:
        InputError: a file cannot be read.
    """
    with uncollected():
        return [load_results(path) for path in paths]


def together(parts: Sequence[LoadedResults], *, paths: Sequence[Path], has_audits: bool = False) -> LoadedResults:
    """Return the joint content of several results files; ``paths`` are named in the error.

    Raises:
        InputError: no file holds a record, or an audit where audits will do.
    """
    records = tuple(record for part in parts for record in part.records)
    audits = tuple(record for part in parts for record in part.audits)
    if not records and not (has_audits and audits):
        # Do not suggest writing to a file that holds something else.
        notes = [note for part in parts for note in part.notes]
        is_empty = not notes
        sweep = f"run vnbench sweep --widths 3200:12800 --out {paths[0]}"
        raise InputError(
            ", ".join(str(path) for path in paths),
            allowed=("it holds audits alone" if audits else "there is no record in it")
            + (f" ({notes[0].partition(': ')[2]})" if notes else ""),
            remedy=sweep if is_empty else "name a results file that vnbench sweep wrote",
        )
    return LoadedResults(
        records=records,
        probes=tuple(record for part in parts for record in part.probes),
        audits=audits,
        notes=tuple(note for part in parts for note in part.notes),
        torn_bytes=sum(part.torn_bytes for part in parts),
    )


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pause garbage collection: thousands of records hold no cycles, and each collection would scan all of them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # What was made meanwhile becomes old without a scan; the next collection would begin with one.
            gc.freeze()
            gc.unfreeze()
            gc.enable()


START = b'{"schema_version"'
"""First bytes of a record's line."""


class ResultsFile:
    """A results file open for appending, locked by this process until it is closed."""

    def __init__(self, path: Path, *, environment: Environment, where: str = "--out") -> None:
        """Open a results file, or create it with its folders, and remove an incomplete last line.

        Raises:
            InputError: the path is a folder or cannot be written; another process holds the file; or the file has
                another schema version, or records of another machine or version (see placement). The file is then left
                unchanged.
        """
        self.path = path
        self.records: tuple[TrialRecord, ...] = ()
        self.probes: tuple[TrialRecord, ...] = ()
        self.audits: tuple[TrialRecord[AuditSpec], ...] = ()
        self.notes: tuple[str, ...] = ()
        self._is_new = is_new = not path.exists()
        if is_new:
            _make_parent(path, where=where)
        elif path.is_dir():
            raise InputError(where, path, allowed="this is a folder", remedy=f"write {path}/NAME.jsonl")
        check_regular(path)
        self._descriptor = _open(path, where=where, is_new=is_new)
        try:
            note = _lock(self._descriptor, path, where=where)
            self._take_over(environment, where=where)
            self.notes += note
        except BaseException:
            self.close()
            raise

    def append(self, record: TrialRecord) -> None:
        """Write a record and wait until it is on disk.

        Raises:
            InputError: the record cannot be written; an incomplete line is removed.
        """
        size = os.fstat(self._descriptor).st_size
        line = memoryview(record.to_json().encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise InputError(
                str(self.path),
                allowed=f"the record cannot be written ({error.strerror})",
                remedy="make room, and run the same command again",
            ) from error
        if is_of_kind(record, ProbeSpec):
            self.probes += (record,)
        elif is_of_kind(record, AuditSpec):
            self.audits += (record,)
        else:
            self.records += (record,)

    def close(self) -> None:
        """Close the file and release its lock; delete a new file that got no record."""
        if self._descriptor >= 0:
            if self._is_new and os.fstat(self._descriptor).st_size == 0:
                self.path.unlink(missing_ok=True)
            unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_over(self, environment: Environment, *, where: str) -> None:
        if (form := form_of(self.path)) != "UTF-8":
            raise InputError(
                where,
                self.path,
                allowed=f"is {form}, which is read but not written",
                remedy="name another file, or convert this one to UTF-8 text",
            )
        loaded = load_results(self.path)
        for record in (*loaded.records, *loaded.probes, *loaded.audits):
            different = differences(record.environment, environment)
            if different:
                raise InputError(
                    where,
                    self.path,
                    allowed=f"its records are of another machine or version ({', '.join(different)})",
                    remedy="name another file, or move this one away",
                )
        notes = list(loaded.notes)
        size = os.fstat(self._descriptor).st_size
        torn = os.pread(self._descriptor, min(len(START), loaded.torn_bytes), size - loaded.torn_bytes)
        is_record = bool(torn) and (START.startswith(torn) or not torn.strip(b"\0"))
        if size and not is_record and not (loaded.records or loaded.probes or loaded.audits):
            raise InputError(where, self.path, allowed="holds data other than records", remedy="name another file")
        if is_record:
            os.ftruncate(self._descriptor, size - loaded.torn_bytes)
            notes[-1] += "; removed"
        elif size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")
        self.records, self.probes, self.audits = loaded.records, loaded.probes, loaded.audits
        self.notes = tuple(notes)


def _lock(descriptor: int, path: Path, *, where: str) -> tuple[str, ...]:
    """Take the lock of a results file; return a note if the file system has no locks.

    Raises:
        InputError: another process holds the lock.
    """
    try:
        is_ours = try_lock(descriptor)
    except NoLocksError as error:
        return (f"{path}: its file system has no locks ({error.strerror}); let no other sweep write this file",)
    if not is_ours:
        raise InputError(
            where, path, allowed="another sweep is writing this file", remedy="wait for it, or name another file"
        )
    return ()


def _make_parent(path: Path, *, where: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            where, path, allowed=f"its folder cannot be created ({error.strerror})", remedy="name a writable folder"
        ) from error


def _open(path: Path, *, where: str, is_new: bool) -> int:
    flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if is_new else 0)
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise InputError(
            where, path, allowed=f"the file cannot be written ({error.strerror})", remedy="name a writable file"
        ) from error
