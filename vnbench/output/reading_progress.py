"""How far the reading of image files is, on stderr, where it takes long: the first time over a large archive."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress

from vnbench.output.console import say

QUIET_S = 5.0
"""Reading that ends within it is not told of in lines."""

LINES_EVERY_S = 60.0


class ReadingProgress:
    """Tells of files that were read: by a bar on a terminal, elsewhere by a line now and then."""

    def __init__(self, *, console: Console) -> None:
        self._console = console
        self._next_line_s = time.monotonic() + QUIET_S
        self._bar = Progress(console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("reading images, the first time only", total=None, visible=False)

    def __enter__(self) -> ReadingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` files were read."""
        self._bar.update(self._task, completed=done, total=total, visible=True)
        if not self._console.is_terminal and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINES_EVERY_S
            say(self._console, f"reading images, the first time only: {done:,} of {total:,} files")
