"""The lines under a table: why rows have no figures, which processes failed, and what gives reason for doubt."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from vnbench.output.words.levers import describe, varying
from vnbench.records.record import Status, TrialWarning, WarningCode
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count

MAX_EQUAL_WARNINGS = 1
"""Rows with the same warning that get a line each; more of them share one, and where they are more than half of the
rows the warning is one of the whole table and marks none of them."""


class OfSpec(Protocol):
    """Something that is told of a configuration."""

    @property
    def spec(self) -> TrialSpec:
        """What was asked."""


class Row(OfSpec, Protocol):
    """One configuration over its processes: what the rows of all tables have in common."""

    @property
    def status(self) -> Status:
        """How it ended."""

    @property
    def cause(self) -> str | None:
        """Why it has no figures; None where it has."""

    @property
    def warnings(self) -> tuple[TrialWarning, ...]:
        """Reasons for doubt."""

    @property
    def num_processes(self) -> int:
        """Processes with figures."""

    @property
    def failures(self) -> tuple[str, ...]:
        """How each process without figures ended."""


def shared_codes(rows: Sequence[Row]) -> frozenset[WarningCode]:
    """Return the warnings that most rows share."""
    counts = Counter(code for row in rows for code in {warning.code for warning in row.warnings})
    return frozenset(code for code, number in counts.items() if number > max(MAX_EQUAL_WARNINGS, len(rows) / 2))


def status_cell(row: Row, *, shared: frozenset[WarningCode] = frozenset()) -> str:
    """Return the status of a row, with a mark where ``is_marked``."""
    return f"{row.status} !" if is_marked(row, shared=shared) else row.status


def is_marked(row: Row, *, shared: frozenset[WarningCode]) -> bool:
    """Return whether a line under the table says more of a row than the ``shared`` warnings."""
    has_own = any(warning.code not in shared for warning in row.warnings)
    return has_own or (row.status == "ok" and (bool(row.failures) or row.cause is not None))


def subject(row: OfSpec, rows: Sequence[OfSpec]) -> str:
    """Return what tells a row from the others."""
    names = ["batch_size", *varying(other.spec for other in rows)]
    if row.spec.accumulation_steps == 1:
        names = [name for name in names if name != "micro_batch_size"]
    return describe(row.spec, names=names)


def row_notes(rows: Sequence[Row]) -> list[str]:
    """Return why rows have no figures, then which processes of the others failed, then the warnings.

    Lines that belong to marked rows begin with the mark; those of warnings that most rows share come last, without it.
    """
    without = [row for row in rows if row.num_processes == 0]
    reasons = [f"{row.status}: {subject(row, without)}: {short(row.cause)}" for row in without]
    partial = [
        f"! {subject(row, rows)}: {len(row.failures)} of {count(len(row.failures) + row.num_processes, 'process')} "
        f"without figures ({short('; '.join(dict.fromkeys(row.failures)))})"
        for row in rows
        if row.num_processes and row.failures
    ]
    return [*reasons, *partial, *_warnings(rows)]


def short(cause: str | None) -> str:
    """Return a cause in at most two lines of a terminal; the record holds all of it."""
    return textwrap.shorten(cause or "no cause recorded", width=180, placeholder=" ...")


def _warnings(rows: Sequence[Row]) -> list[str]:
    """Return a line per row and code, or one for all rows of a code that many of them share."""
    by_code: dict[WarningCode, list[tuple[Row, list[TrialWarning]]]] = {}
    for row in rows:
        codes = dict.fromkeys(warning.code for warning in row.warnings)
        for code in codes:
            by_code.setdefault(code, []).append((row, [one for one in row.warnings if one.code == code]))
    shared = shared_codes(rows)
    own: list[str] = []
    common: list[str] = []
    for code, found in by_code.items():
        if len(found) <= MAX_EQUAL_WARNINGS:
            own += [f"! {subject(row, rows)}: {_told(code, warnings)}" for row, warnings in found]
            continue
        row, warnings = found[0]
        line = f"{subject(row, rows)}: {_told(code, warnings)}"
        if code in shared:
            common.append(f"{len(found)} of {count(len(rows), 'configuration')}, for example {line}")
        else:
            own.append(f"! {count(len(found), 'configuration')}, for example {line}")
    return [*own, *common]


def _told(code: WarningCode, warnings: Sequence[TrialWarning]) -> str:
    return f"{short(warnings[0].message)} ({code}{_times(warnings)})"


def _times(warnings: Sequence[TrialWarning]) -> str:
    return f", {len(warnings)} times" if len(warnings) > 1 else ""
