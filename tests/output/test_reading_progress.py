from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from vnbench.output.reading_progress import LINES_EVERY_S, QUIET_S, ReadingProgress


def test_reading_that_takes_long_is_told_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    stderr = io.StringIO()
    with ReadingProgress(console=Console(file=stderr, width=120)) as progress:
        progress(1, 20_000)
        assert stderr.getvalue() == ""
        now_s += QUIET_S
        progress(1_200, 20_000)
        progress(1_201, 20_000)
        now_s += LINES_EVERY_S
        progress(15_000, 20_000)
    assert stderr.getvalue().splitlines() == [
        "reading images, the first time only: 1,200 of 20,000 files",
        "reading images, the first time only: 15,000 of 20,000 files",
    ]


def test_a_terminal_has_a_bar_and_no_lines() -> None:
    stderr = io.StringIO()
    with ReadingProgress(console=Console(file=stderr, width=120, force_terminal=True)) as progress:
        progress(3, 4)
    assert "reading images, the first time only" in stderr.getvalue()
    assert "of 20,000 files" not in stderr.getvalue()
