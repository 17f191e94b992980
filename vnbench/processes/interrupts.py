"""Remember Ctrl-C: C extensions may disguise it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the signal number, by convention."""


class Interrupts:
    """A context that remembers whether Ctrl-C was pressed; KeyboardInterrupt is still raised.

    For example, an extension module whose import is interrupted may raise an ImportError instead. If interrupts are
    ignored, as for background jobs of a shell, they stay ignored.
    """

    def __init__(self) -> None:
        self.have_come = False
        """Whether Ctrl-C was pressed."""
        self._is_noting = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed and got lost: callbacks of the import system drop it."""
        if self.have_come:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        self._is_noting = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._is_noting:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_noting:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> NoReturn:
        self.have_come = True
        raise KeyboardInterrupt
