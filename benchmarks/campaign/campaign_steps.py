"""The steps of a campaign: their definition and their outcomes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

BAD_STATUSES = ("crashed", "timeout", "wrong")
"""Statuses of trials that mean a fault; running out of memory, or being skipped for it, is a result."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement."""

    name: str
    command: str
    """Command line; {results} and {reports} are folders."""
    minutes: float
    """Maximum time in one call."""
    least_minutes: float
    """Minimum time that is worth starting it."""
    priority: int = 1
    """Steps with a smaller number come first."""
    must_pass: bool = False
    """Whether no other step starts before this one has run without a fault."""
    assumed_s: float | None = None
    """Assumed seconds in a rehearsal, if its command is not a sweep."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended."""

    exit_code: int
    """Exit code; negative for the signal that ended it."""
    seconds: float
    is_cut_short: bool
    """Whether it ran out of time."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Number of a sweep's trials by the status of their last try, including earlier calls."""
    num_left: int = 0
    """Trials, or configurations of a search, that a sweep left for the next call."""
    turn: int = 0
    """Position among all runs of steps, from 1; 0 until it is noted."""
    seconds_of_runs: tuple[float, ...] = ()
    """Seconds of each run of the step, this one last."""
    has_advanced: bool = True
    """Whether this run advanced a sweep; for other steps, whether it finished."""

    @property
    def is_done(self) -> bool:
        """Whether it needs no further run."""
        return self.exit_code == 0 and not self.is_cut_short and not self.num_left

    @property
    def num_trials(self) -> int:
        """Number of trials that have a record."""
        return sum(self.statuses.values())

    @property
    def faults(self) -> str:
        """Description of the faults; empty if there are none."""
        bad = [f"{self.statuses[status]} {status}" for status in BAD_STATUSES if self.statuses.get(status)]
        if self.exit_code and not self.is_cut_short:
            bad.append(f"exit code {self.exit_code}")
        return ", ".join(bad)

    def after(self, last: Outcome | None, *, turn: int) -> Outcome:
        """Return this outcome with the history of the step's previous outcome, ``last``."""
        known = last.num_trials if last else 0
        return replace(
            self,
            # A killed sweep could not report what its file holds.
            statuses=self.statuses or (last.statuses if last else {}),
            turn=turn,
            seconds_of_runs=(*(last.seconds_of_runs if last else ()), self.seconds),
            has_advanced=self.num_trials > known if self.statuses else not self.is_cut_short,
        )

    def __str__(self) -> str:
        trials = [f"{count} {status}" for status, count in self.statuses.items()]
        left = [f"{self.num_left} left"] if self.num_left else []
        cut = ["out of time"] if self.is_cut_short else []
        end = "done" if self.is_done else f"exit code {self.exit_code}" if self.exit_code else "partly done"
        return f"{', '.join([end, *cut])} after {self.seconds:.0f} s" + "".join(f"; {one}" for one in [*trials, *left])


class State:
    """The outcomes of a campaign's steps, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, Outcome] = {}
        if path.exists():
            self._outcomes = {
                name: _outcome(fields) for name, fields in json.loads(path.read_text(encoding="utf-8")).items()
            }

    def of(self, name: str) -> Outcome | None:
        """Return the last outcome of a step; None if it never ran."""
        return self._outcomes.get(name)

    def note(self, name: str, outcome: Outcome) -> Outcome:
        """Store the outcome of a step, and return it as stored."""
        turn = 1 + max((one.turn for one in self._outcomes.values()), default=0)
        kept = outcome.after(self.of(name), turn=turn)
        self._outcomes[name] = kept
        text = json.dumps({name: asdict(one) for name, one in self._outcomes.items()}, indent=1)
        part = self._path.with_suffix(".part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self._path)
        return kept

    def table(self, steps: Sequence[Step]) -> str:
        """Return the state of every step, one per line."""
        width = max(len(step.name) for step in steps)
        return "\n".join(f"{step.name:{width}}  {self.of(step.name) or 'not run'}" for step in steps)


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**fields, "seconds_of_runs": tuple(fields.get("seconds_of_runs", ()))})


def read_campaign(path: Path) -> tuple[list[Step], list[str]]:
    """Return the steps of a definition and the commands for its reports.

    Raises:
        ValueError: a step lacks a field, has an unknown field, or shares its name with another.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    steps = [_step(number, entry) for number, entry in enumerate(document.get("step", []), start=1)]
    names = [step.name for step in steps]
    if not steps or len(set(names)) < len(names):
        raise ValueError("it needs [[step]] entries with names of their own")
    return steps, [str(entry["command"]) for entry in document.get("report", [])]


def _step(number: int, entry: Mapping[str, Any]) -> Step:
    try:
        return Step(**{"least_minutes": entry["minutes"] / 2, **entry})
    except (KeyError, TypeError) as error:
        raise ValueError(f"step {number}: {error}") from error
