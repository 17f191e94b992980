"""How far a gate is that measures both sides block by block, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vnbench.analysis.comparison.blocks import Blocks
from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import ALL_ROWS, Row
from vnbench.output.console import say
from vnbench.output.gate.words import change, interval
from vnbench.output.progress import describe_trial
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count, format_duration

SIDES = ("baseline", "candidate")


class BlockProgress:
    """Tells of each block what the mean says after it, and how much time is left."""

    def __init__(self, *, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started_s = clock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None)

    def __enter__(self) -> BlockProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def block_started(self, blocks: Blocks, block: int) -> None:
        """Take note that a block starts."""
        due = [one for one in blocks.due(block) if (one.candidate.spec_id, block) not in blocks.pairs]
        self._started_s = self._clock()
        self._progress.reset(self._bar, total=2 * len(due), description=f"block {block + 1}")
        if block == 0:
            say(self._console, f"block 1: {count(2 * len(due), 'trial')}, {count(len(due), 'configuration')} a side")

    def trial_started(self, spec: TrialSpec, side: int) -> None:
        """Take note that a trial starts."""
        self._progress.update(self._bar, description=f"{SIDES[side]}, {describe_trial(spec)}")

    def finished(self, record: TrialRecord) -> None:
        """Take note that a trial ended; one that failed gets a line."""
        self._progress.update(self._bar, advance=1)
        if record.status != "ok":
            cause = record.cause.message if record.cause else "no reason given"
            say(self._console, f"{describe_trial(record.spec)}: {record.status}, {cause}")

    def block_ended(self, comparison: Comparison, num_blocks: int, *, left_s: float) -> None:
        """Tell what the first ``num_blocks`` blocks came to."""
        took_s = self._clock() - self._started_s
        first = next((row for row in comparison.rows if row.metric == "time"), None)
        told = f"block {num_blocks} took {format_duration(max(1.0, took_s))}: {_told(first)}"
        if comparison.outcome == "undecided" and not comparison.differing:
            told += f"; undecided, {format_duration(max(1.0, left_s))} left at most"
        else:
            told += f"; {comparison.outcome}"
        say(self._console, told)


def _told(row: Row | None) -> str:
    """Return what the mean says, or the only row of times."""
    if row is None:
        return "no times to compare"
    what = "all configurations" if row.spec_id == ALL_ROWS else "the time"
    return f"{what} {change(row.ratio)}" + ("" if row.interval is None else f" ({interval(row)})")
