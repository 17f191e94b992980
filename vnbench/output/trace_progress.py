"""How far the traces of forecasts are, on stderr: a live bar on a terminal, a line at every tenth elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vnbench.output.console import say
from vnbench.output.progress import Shown
from vnbench.units import count, format_duration

NUM_LINES = 10
"""Lines at most where there is no terminal."""


class TraceProgress(Shown):
    """Tells how many traces are done, with an estimate of the time that is left."""

    def __init__(self, console: Console) -> None:
        """``console`` is that of stderr."""
        self._console = console
        self._start_s = time.monotonic()
        self._told = 0
        self._progress = Progress(
            TextColumn("tracing steps"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task("traces", total=None, left="")

    def observe(self, num_done: int, num_due: int) -> None:
        """Take note that ``num_done`` of ``num_due`` traces are done; 0 marks the start."""
        if num_done == 0:
            self._start_s, self._told = time.monotonic(), 0
            if num_due:
                say(self._console, f"tracing {count(num_due, 'step')} on tensors without numbers")
        left = self._left(num_done, num_due)
        self._progress.update(self._bar, completed=num_done, total=num_due, left=left)
        tenth = NUM_LINES * num_done // max(num_due, 1)
        if not self._console.is_terminal and self._told < tenth < NUM_LINES:
            self._told = tenth
            say(self._console, f"[{num_done}/{num_due}] traced ({left})")

    def _left(self, num_done: int, num_due: int) -> str:
        if not 0 < num_done < num_due:
            return ""
        per_trace_s = (time.monotonic() - self._start_s) / num_done
        return f"about {format_duration(per_trace_s * (num_due - num_done))} left"
