"""The rule for repeating disturbed trials, which ends a sweep even on a machine that disturbs every trial."""

from __future__ import annotations

from collections import Counter

from vnbench.records.record import TrialRecord
from vnbench.sweep.disturbances import is_disturbed
from vnbench.units import count

MAX_STUBBORN_REPEATS = 3
"""Number of disturbed repeats in a row after which repeating is given up: the disturbance is not temporary, and with
the usual three tries the sweep would take three times as long for nothing."""


class Repeats:
    """Decides after each try whether to try the trial again, and counts the trials that stayed disturbed."""

    def __init__(self, *, max_attempts: int) -> None:
        """``max_attempts`` is the maximum number of tries of a disturbed trial, including the first."""
        self.is_given_up = False
        """Whether repeating has been given up."""
        self._max_attempts = max_attempts
        self._num_stubborn_in_a_row = 0
        self._num_disturbed = 0
        self._num_finished = 0
        self._codes: Counter[str] = Counter()

    def is_wanted_after(self, record: TrialRecord, *, num_tries: int) -> bool:
        """Return whether to try a trial again after ``num_tries`` tries, the last of which left ``record``."""
        return is_disturbed(record) and num_tries < self._max_attempts and not self.is_given_up

    def tried_again(self, record: TrialRecord) -> str | None:
        """Count a repeat; return a message, once, if repeating is given up with it."""
        if not is_disturbed(record):
            self._num_stubborn_in_a_row = 0
            return None
        self._num_stubborn_in_a_row += 1
        if self._num_stubborn_in_a_row < MAX_STUBBORN_REPEATS or self.is_given_up:
            return None
        self.is_given_up = True
        return (
            f"{MAX_STUBBORN_REPEATS} repeats in a row were disturbed again: this sweep repeats no more "
            "trials; vnbench env shows what disturbs them"
        )

    def finished(self, record: TrialRecord) -> None:
        """Count a trial's last try."""
        self._num_finished += 1
        if is_disturbed(record):
            self._num_disturbed += 1
            self._codes.update(set(record.disturbances))

    def verdict(self) -> str | None:
        """Return a final message about trials that stayed disturbed; None if there were none."""
        if not self._num_disturbed:
            return None
        codes = ", ".join(f"{code} {number}" for code, number in sorted(self._codes.items()))
        return (
            f"disturbed in every try: {self._num_disturbed} of {count(self._num_finished, 'trial')} ({codes}); "
            "their figures are kept and marked; check vnbench env before you trust them"
        )
