"""The steps of a campaign: what a definition says of them, and how each ended."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

BAD_STATUSES = ("crashed", "timeout", "wrong")
"""Statuses of trials that tell of a fault; what runs out of memory, and what is skipped for it, is a result."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement."""

    name: str
    command: str
    """Its command line; {results} and {reports} are folders."""
    minutes: float
    """Most that it may take in one call."""
    least_minutes: float
    """Less than this is not worth beginning."""
    priority: int = 1
    """What it is worth: steps of a smaller number come first."""
    must_pass: bool = False
    """Whether nothing else begins before it has run without a fault."""
    assumed_s: float | None = None
    """Seconds that it is assumed to take in a rehearsal, where its command is no sweep."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended."""

    exit_code: int
    """Negative: minus the signal that ended it."""
    seconds: float
    is_cut_short: bool
    """Whether it ran out of time."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Number of a sweep's trials by the status of their last try, those of earlier calls among them."""
    num_left: int = 0
    """Trials, or configurations of a search, that a sweep left for the next call."""
    turn: int = 0
    """How many steps had ended before."""
    seconds_of_runs: tuple[float, ...] = ()
    """What each run of the step took, this one last."""
    has_advanced: bool = True
    """Whether this run brought a sweep further; of other steps, whether it came to its end."""

    @property
    def is_done(self) -> bool:
        """Whether it needs no other run."""
        return self.exit_code == 0 and not self.is_cut_short and not self.num_left

    @property
    def num_trials(self) -> int:
        """Trials that have a record."""
        return sum(self.statuses.values())

    @property
    def faults(self) -> str:
        """What tells of a fault; empty where nothing does."""
        bad = [f"{self.statuses[status]} {status}" for status in BAD_STATUSES if self.statuses.get(status)]
        if self.exit_code and not self.is_cut_short:
            bad.append(f"exit code {self.exit_code}")
        return ", ".join(bad)

    def after(self, last: Outcome | None, *, turn: int) -> Outcome:
        """Return this outcome as that of a step whose run before it ended with ``last``."""
        known = last.num_trials if last else 0
        return replace(
            self,
            # A sweep that was killed could not say what its file holds.
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
    """How the steps of a campaign ended, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, Outcome] = {}
        if path.exists():
            self._outcomes = {
                name: _outcome(fields) for name, fields in json.loads(path.read_text(encoding="utf-8")).items()
            }

    def of(self, name: str) -> Outcome | None:
        """Return how a step ended last; None where it never ran."""
        return self._outcomes.get(name)

    def is_done(self, name: str) -> bool:
        """Return whether a step needs no other run."""
        return name in self._outcomes and self._outcomes[name].is_done

    def note(self, name: str, outcome: Outcome) -> Outcome:
        """Keep how a step ended, and return it as it is kept."""
        turn = 1 + max((one.turn for one in self._outcomes.values()), default=0)
        kept = outcome.after(self.of(name), turn=turn)
        self._outcomes[name] = kept
        text = json.dumps({name: asdict(one) for name, one in self._outcomes.items()}, indent=1)
        part = self._path.with_suffix(".part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self._path)
        return kept

    def table(self, steps: Sequence[Step]) -> str:
        """Return how every step stands, one a line."""
        width = max(len(step.name) for step in steps)
        return "\n".join(f"{step.name:{width}}  {self.of(step.name) or 'not run'}" for step in steps)


def _outcome(fields: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**fields, "seconds_of_runs": tuple(fields.get("seconds_of_runs", ()))})


def read_campaign(path: Path) -> tuple[list[Step], list[str]]:
    """Return the steps of a definition and the commands of its reports.

    Raises:
        ValueError: a step lacks something, has something unknown, or a name comes twice.
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
