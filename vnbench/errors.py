"""The exceptions that vnbench raises on purpose.

VnbenchError
├── InputError          the user's option or file is wrong            exit code 2
├── CorpusError         an image file cannot be used as asked         (in a trial: status ``crashed``)
├── ModelError          a user's own network cannot be used           exit code 2 (in a trial: status ``crashed``)
├── LoaderError         the loader's workers or room cannot do it     (in a trial: status ``crashed``)
├── PlanError           a run cannot be planned from what there is    exit code 3
├── GateError           there is nothing to compare with              exit code 3
├── BudgetError         the time budget leaves room for no trial      exit code 3
└── ChildError          a helper process did not answer               exit code 3

Any other exception is an error of vnbench itself: exit code 70, one line, and a file with its details.
Out of memory, a timeout and a crash of a trial are not exceptions but data: the ``status`` of its record.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class VnbenchError(Exception):
    """Base of every error that vnbench raises on purpose."""

    exit_code = 3


class InputError(VnbenchError):
    """An option or a file that cannot be used, told in four parts.

    The message reads ``WHERE GIVEN: ALLOWED; REMEDY``, as in
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
    """An image or mask file that is missing, does not decode, or is not what its manifest says."""

    exit_code = 2


class ModelError(VnbenchError):
    """A user's own network that does not take what it is given, or does not return logits."""

    exit_code = 2


class LoaderError(VnbenchError):
    """A loader worker that died or hangs, or room that the loader needs and there is not."""


class BudgetError(VnbenchError):
    """A time budget in which not one trial would end."""


class ChildError(VnbenchError):
    """A helper process (not a trial) ended without its answer."""


class GateError(VnbenchError):
    """A comparison that cannot be made, as for want of a baseline."""


class PlanError(VnbenchError):
    """A plan that cannot be made: nothing fits, or the records do not hold what it takes."""


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Tell of a file or folder that may not be read as bad input; ``where`` is the option that names it.

    Raises:
        InputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            where, error.filename or "", allowed=f"cannot be read ({error.strerror})", remedy="make it readable"
        ) from error
