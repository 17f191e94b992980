"""Remember Ctrl-C: extensions that it hits may disguise it."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, by convention 128 and the number of the signal."""


class Interrupts:
    """Notes, while it is entered, that an interrupt has come; it raises KeyboardInterrupt as ever.

    An extension module whose import is interrupted makes an ImportError of it, for one. Where interrupts are ignored,
    as a shell has it for what it runs in the background, they still are.
    """

    def __init__(self) -> None:
        self.have_come = False
        """Whether there was one."""
        self._is_noting = False

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
