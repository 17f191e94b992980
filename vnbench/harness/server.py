"""What the server of children loads on top of its modules: a child whose start was interrupted has nothing to say.

The server forks a child as soon as it is asked to; what the child is to do comes on a pipe afterwards. An interrupt in
between leaves the pipe empty, and Python would print the end of file as an error of the insides.
"""

from __future__ import annotations

import sys
from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if not issubclass(kind, EOFError):
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _report
