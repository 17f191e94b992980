"""How far a gate is that measures both sides block by block, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vnbench.analysis.comparison.blocks import Blocks
from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.rows import ALL_ROWS, Row
from vnbench.analysis.comparison.sequential import blocks_to_see
from vnbench.output.console import say
from vnbench.output.gate.words import change, interval
from vnbench.output.progress import Shown, describe_trial
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count, format_duration

SIDES = ("baseline", "candidate")


class BlockProgress(Shown):
    """Tells of each block what the mean says after it, and how much time is left."""

    def __init__(self, *, tolerance: float, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """``tolerance`` is the slowdown that is allowed."""
        self._tolerance = tolerance
        self._console = console
        self._clock = clock
        self._started_s = clock()
        self._has_begun = self._has_finished = False
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

    def block_started(self, blocks: Blocks, block: int, *, left_s: float) -> None:
        """Take note that a block starts; the first one gets a line."""
        due = [one for one in blocks.due(block) if (one.identity, block) not in blocks.pairs]
        self._started_s = self._clock()
        self._progress.reset(self._bar, total=2 * len(due), description=f"block {block + 1}")
        if not self._has_begun:
            self._has_begun = True
            told = f"block {block + 1}: {count(2 * len(due), 'trial')}, {count(len(due), 'configuration')} a side"
            say(self._console, f"{told}; the time cap counts from here, {format_duration(max(1.0, left_s))}")

    def trial_started(self, spec: TrialSpec, side: int) -> None:
        """Take note that a trial starts."""
        self._progress.update(self._bar, description=f"{SIDES[side]}, {describe_trial(spec)}")

    def finished(self, record: TrialRecord) -> None:
        """Take note that a trial ended; the first one gets a line, and one that failed."""
        self._progress.update(self._bar, advance=1)
        if not self._has_finished:
            self._has_finished = True
            say(self._console, f"the first trial took {format_duration(max(1.0, record.elapsed_s))}")
        if record.status != "ok":
            cause = record.cause.message if record.cause else "no reason given"
            again = "; a crash is tried once more" if record.status == "crashed" and not record.attempt else ""
            say(self._console, f"{describe_trial(record.spec)}: {record.status}, {cause}{again}")

    def block_ended(self, comparison: Comparison, num_blocks: int, *, left_s: float) -> None:
        """Tell what the first ``num_blocks`` blocks came to."""
        took_s = self._clock() - self._started_s
        times = [row for row in comparison.rows if row.metric == "time"]
        told = f"block {num_blocks} took {format_duration(max(1.0, took_s))}: {_told(times)}; {comparison.outcome}"
        if comparison.outcome == "undecided" and not comparison.differing:
            needed = _blocks_needed(times, tolerance=self._tolerance)
            if needed is not None and needed > num_blocks:
                told += f"; a pass would need about {count(needed - num_blocks, 'more block')}"
            told += f"; the time cap ends in {format_duration(left_s)}" if left_s >= 1.0 else "; the time cap has ended"
        say(self._console, told)


def _blocks_needed(times: Sequence[Row], *, tolerance: float) -> int | None:
    if not times:
        return None
    return blocks_to_see(times[0], num_rows=max(1, len(times) - 1), tolerance=tolerance)


def _told(times: Sequence[Row]) -> str:
    """Return what the mean says, or the only row of times."""
    if not times:
        return "no times to compare"
    row = times[0]
    what = "all configurations" if row.spec_id == ALL_ROWS else "time"
    return f"{what} {change(row.ratio)}" + ("" if row.interval is None else f" ({interval(row)})")
