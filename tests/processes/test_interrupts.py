from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from vnbench.processes.interrupts import Interrupts


def test_an_interrupt_that_something_dropped_is_raised_when_it_is_asked_for() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Interrupts() as interrupts:
            interrupts.check()
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)
