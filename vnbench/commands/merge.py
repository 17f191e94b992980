"""``vnbench merge``: the shares of a sweep, measured on several machines, become one results file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console
from vnbench.records.machine_keys import differences
from vnbench.records.record import TrialRecord
from vnbench.records.shard_file import ShardFile, trial_key
from vnbench.records.store import LoadedResults, ResultsFile, load_results
from vnbench.units import count

SHOWN = 10
"""Missing trials that are named on stderr; JSON names all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeReport:
    """What was merged."""

    out: Path
    """The file with all of it."""
    num_records: int
    """Records in it."""
    num_doubles: int
    """Records that stood in several files, and stand in it once."""
    num_shards: int
    """Shares that were given."""
    count: int
    """Shares of the sweep."""
    missing: tuple[str, ...]
    """Trials without a record, and shares without a file."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where something is missing."""
        return 3 if self.missing else 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "out": str(self.out),
            "num_records": self.num_records,
            "num_doubles": self.num_doubles,
            "num_shards": self.num_shards,
            "count": self.count,
            "missing": list(self.missing),
        }


def run_merge_command(files: Sequence[Path], *, out: Path, as_json: bool) -> MergeReport:
    """Write the records of all shares into one file, and name what is missing.

    Raises:
        InputError: a file cannot be read, is no share or of another design or machine, or the new one exists.
    """
    if out.exists():
        raise InputError("--out", out, allowed="this file is there already", remedy="name a new one")
    shards = [ShardFile.read(path) for path in files]
    _check_designs(files, shards)
    loaded = [load_results(path) for path in files]
    _check_machines(files, loaded)
    records: dict[str, TrialRecord] = {}
    num_doubles = 0
    for one in loaded:
        for record in (*one.probes, *one.records):
            num_doubles += record.trial_id in records
            records.setdefault(record.trial_id, record)
    if not records:
        raise InputError(", ".join(map(str, files)), allowed="none holds a record", remedy="run the sweeps first")
    with ResultsFile(out, environment=next(iter(records.values())).environment) as file:
        for record in records.values():
            file.append(record)
    measured = {trial_key(record.spec_id, record.replicate) for record in records.values()}
    given = {shard.number: shard for shard in shards}
    total = shards[0].count
    report = MergeReport(
        out=out,
        num_records=len(records),
        num_doubles=num_doubles,
        num_shards=len(given),
        count=total,
        missing=(
            *(f"all of shard {number}/{total}" for number in range(1, total + 1) if number not in given),
            *(
                f"{words} (shard {number}/{total})"
                for number, shard in sorted(given.items())
                for key, words in shard.trials.items()
                if key not in measured
            ),
        ),
    )
    _tell([note for one in loaded for note in one.notes], report, as_json=as_json)
    return report


def _check_designs(files: Sequence[Path], shards: Sequence[ShardFile]) -> None:
    first = shards[0]
    for path, shard in zip(files, shards, strict=True):
        if (shard.design, shard.count) != (first.design, first.count):
            raise InputError(
                str(path),
                allowed=f"it is a share of another design than {files[0]} ({shard.number}/{shard.count} of "
                f"{shard.design} there, {first.number}/{first.count} of {first.design} here)",
                remedy="merge shares that the same options made, on the same images",
            )


def _check_machines(files: Sequence[Path], loaded: Sequence[LoadedResults]) -> None:
    first: tuple[Path, TrialRecord] | None = None
    for path, one in zip(files, loaded, strict=True):
        for record in one.records:
            first = first or (path, record)
            found = differences(record.environment, first[1].environment)
            if found:
                raise InputError(
                    str(path),
                    allowed=f"it was measured on another machine or version than {first[0]}: {', '.join(found)}",
                    remedy="merge shares of machines that are alike; compare others with vnbench gate",
                )


def _tell(notes: Sequence[str], report: MergeReport, *, as_json: bool) -> None:
    console = stderr_console()
    for note in notes:
        say(console, note)
    if as_json:
        return
    say(
        console,
        f"{report.out}: {count(report.num_records, 'record')} of {report.num_shards} of {count(report.count, 'shard')}"
        + (f", {count(report.num_doubles, 'double')} left out" if report.num_doubles else ""),
    )
    for line in report.missing[:SHOWN]:
        say(console, f"missing: {line}")
    if len(report.missing) > SHOWN:
        say(console, f"missing: {count(len(report.missing) - SHOWN, 'further trial')}")
