"""The exceptions that vnbench raises on purpose.

VnbenchError
├── InputError          an option or a file is wrong                  exit code 2
├── CorpusError         an image file cannot be used                  exit code 2 (in a trial: status ``crashed``)
├── ModelError          a user's own network cannot be used           exit code 2 (in a trial: status ``crashed``)
├── LoaderError         a loader worker failed, or memory is short    (in a trial: status ``crashed`` or ``timeout``)
├── PlanError           the records do not suffice for a plan         exit code 3
├── GateError           there is nothing to compare with              exit code 3
├── BudgetError         the time budget is too short for any trial    exit code 3
└── ChildError          a helper process did not answer               exit code 3

Any other exception is an error of vnbench itself: exit code 70, one line on stderr, and a file with the details.
A trial that runs out of memory, times out or crashes raises nothing: the ``status`` of its record says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class VnbenchError(Exception):
    """Base of every error that vnbench raises on purpose."""

    exit_code = 3


class InputError(VnbenchError):
    """An option or a file that cannot be used.

    The message has four parts, ``WHERE GIVEN: ALLOWED; REMEDY``:
    ``--widths 12800:3200: start is greater than stop; write 3200:12800``.
    """

    exit_code = 2

    def __init__(self, where: str, given: object = "", *, allowed: str, remedy: str) -> None:
        self.where = where
        self.given = str(given)
        self.allowed = allowed
        self.remedy = remedy
        subject = f"{where} {self.given}".strip()
        super().__init__(f"{subject}: {allowed}; {remedy}")


class CorpusError(VnbenchError):
    """An image or mask file that is missing, cannot be decoded, or differs from its manifest."""

    exit_code = 2


class ModelError(VnbenchError):
    """A user's own network that rejects its input or does not return logits."""

    exit_code = 2


class LoaderError(VnbenchError):
    """A loader worker that died or hangs, or too little memory for the loader."""


class BudgetError(VnbenchError):
    """A time budget too short for even one trial."""


class ChildError(VnbenchError):
    """A helper process (not a trial) that ended without an answer."""


class GateError(VnbenchError):
    """A comparison that cannot be made, for example because there is no baseline."""


class PlanError(VnbenchError):
    """A plan that cannot be made: nothing fits into memory, or the records do not suffice."""


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Report an unreadable file or folder as bad input; ``where`` is the option that names it.

    Raises:
        InputError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            where, error.filename or "", allowed=f"cannot be read ({error.strerror})", remedy="make it readable"
        ) from error
