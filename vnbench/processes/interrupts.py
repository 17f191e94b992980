"""Remember Ctrl-C: C extensions may disguise it."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the signal number, by convention."""

AGAIN_S = 0.01
"""Seconds until an interrupt that was dropped is sent again: what dropped it is over by then, or drops it once more."""


class Interrupts:
    """A context that remembers whether Ctrl-C was pressed; KeyboardInterrupt is still raised.

    For example, an extension module whose import is interrupted may raise an ImportError instead. One that hits a
    callback of the import system would be printed and forgotten: it is sent again. If interrupts are ignored, as for
    background jobs of a shell, they stay ignored.
    """

    def __init__(self) -> None:
        self.have_come = False
        """Whether Ctrl-C was pressed."""
        self._is_noting = False
        self._tell = sys.unraisablehook

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed and got lost: an import that may fail takes any error."""
        if self.have_come:
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupts:
        self._is_noting = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._is_noting:
            signal.signal(signal.SIGINT, self._note)
            self._tell, sys.unraisablehook = sys.unraisablehook, self._send_again
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_noting:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._tell

    def _note(self, number: int, frame: FrameType | None) -> NoReturn:
        self.have_come = True
        raise KeyboardInterrupt

    def _send_again(self, dropped: UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            self._tell(dropped)
            return
        main = threading.main_thread().ident
        assert main is not None
        later = threading.Timer(AGAIN_S, signal.pthread_kill, (main, signal.SIGINT))
        later.daemon = True  # no process waits for it to end
        later.start()
