"""Which disturbed trials are tried again, so that a machine on which everything is disturbed still ends its sweep."""

from __future__ import annotations

from collections import Counter

from vnbench.records.record import DISTURBANCES, TrialRecord
from vnbench.sweep.disturbances import is_disturbed
from vnbench.units import count

MAX_STUBBORN_REPEATS = 3
"""Repeats in a row that were disturbed again, after which repeating is given up: what disturbs them is no passing
thing, and at the usual three tries a sweep would take three times as long for nothing."""


class Repeats:
    """Decides after each try whether the trial is tried again, and counts those that no try saved."""

    def __init__(self, *, max_attempts: int) -> None:
        """``max_attempts`` is the number of tries at a disturbed trial, the first counted."""
        self.is_given_up = False
        """Whether nothing is tried again any more."""
        self._max_attempts = max_attempts
        self._num_stubborn_in_a_row = 0
        self._num_disturbed = 0
        self._num_finished = 0
        self._codes: Counter[str] = Counter()

    def is_wanted_after(self, record: TrialRecord, *, num_tries: int) -> bool:
        """Return whether a trial whose last of ``num_tries`` tries left ``record`` is to be tried again."""
        return is_disturbed(record) and num_tries < self._max_attempts and not self.is_given_up

    def tried_again(self, record: TrialRecord) -> str | None:
        """Take note of a repeat; return, once, what to say if repeating is given up with it."""
        if not is_disturbed(record):
            self._num_stubborn_in_a_row = 0
            return None
        self._num_stubborn_in_a_row += 1
        if self._num_stubborn_in_a_row < MAX_STUBBORN_REPEATS or self.is_given_up:
            return None
        self.is_given_up = True
        return (
            f"{MAX_STUBBORN_REPEATS} repeats in a row were disturbed again: the trials of this sweep are no longer "
            "tried again; vnbench env says what disturbs"
        )

    def finished(self, record: TrialRecord) -> None:
        """Take note of a trial's last try."""
        self._num_finished += 1
        if is_disturbed(record):
            self._num_disturbed += 1
            self._codes.update({warning.code for warning in record.warnings} & set(DISTURBANCES))

    def verdict(self) -> str | None:
        """Return what to say at the end of trials that stayed disturbed; None if there were none."""
        if not self._num_disturbed:
            return None
        codes = ", ".join(f"{code} {number}" for code, number in sorted(self._codes.items()))
        return (
            f"disturbed to the last try: {self._num_disturbed} of {count(self._num_finished, 'trial')} ({codes}); "
            "their figures are kept and marked; look at vnbench env before you trust them"
        )
