"""How far a sweep is, on stderr: on a terminal the current trial, a bar and the best so far; elsewhere plain lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from vnbench.output.console import say
from vnbench.output.words.levers import kind_told
from vnbench.records.record import TrialRecord
from vnbench.records.spec.axes import LOADER_FIELDS
from vnbench.records.spec.trial_spec import LEVERS, MemorySpec, SnapshotSpec, TrialSpec
from vnbench.sweep.estimate import TrialTimes
from vnbench.units import count, format_bytes, format_duration, mpx

ANNOUNCED_S = 20.0
"""Without a terminal a trial has a line when it ends; one that takes longer than this also has one when it starts."""


class _Story(Progress):
    """The current trial, a bar below it, and the best so far."""

    current = "starting"
    best = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the lines, cut where the terminal is too narrow."""
        yield Text(self.current, no_wrap=True, overflow="ellipsis")
        yield from super().get_renderables()
        if self.best:
            yield Text(f"best so far: {self.best}", no_wrap=True, overflow="ellipsis")


class Shown:
    """A context in which a progress display is shown."""

    _progress: Progress

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class SweepProgress(Shown):
    """Tells of the current trial, of each as it ends, of the time that is left, and of the fastest so far."""

    _progress: _Story

    def __init__(
        self,
        due: Sequence[TrialSpec],
        *,
        times: TrialTimes,
        console: Console,
        is_ranked: bool = True,
        budget_left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """``times`` learns from each trial that ends. Of trials that are not ranked none is told to be the fastest.

        ``budget_left_s`` returns the seconds in which all trials must end.
        """
        self._remaining = list(due)
        self._num_finished = 0
        self._waiting: dict[str, TrialRecord] = {}
        self._times = times
        self._budget_left_s = budget_left_s
        self._console = console
        self._total = len(due)
        self._best = 0.0 if is_ranked else math.inf
        self._progress = _Story(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task("", total=self._total, left=self._left())

    def started(self, spec: TrialSpec, number: int) -> None:
        """Take note that a try at a trial starts, the first with ``number`` 1."""
        again = f", try {number}" if number > 1 else ""
        self._progress.current = f"{describe_trial(spec)}{again}"
        self._progress.update(self._bar, left=self._left())
        takes_s = self._times.of(spec)
        if not self._console.is_terminal and takes_s >= ANNOUNCED_S:
            self._say(f"{describe_trial(spec)}{again}: takes about {format_duration(takes_s)}")

    def repeated(self, record: TrialRecord) -> None:
        """Take note that a trial ended disturbed, and waits behind all others for another try."""
        self._times.learn(record)
        codes = ", ".join(record.disturbances)
        why = f" ({codes})" if codes else ""
        self._say(f"{self._place()} {describe_trial(record.spec)}: disturbed{why}, to be tried again")
        self._waiting[record.trial_id] = record
        self._remaining.remove(record.spec)
        self._remaining.append(record.spec)
        self._progress.update(self._bar, left=self._left())

    def finished(self, record: TrialRecord) -> None:
        """Take note that a trial ended for good, or was skipped; of a try that was told before it says nothing."""
        self._num_finished += 1
        self._remaining.remove(record.spec)
        if record is not self._waiting.pop(record.trial_id, None):
            self._times.learn(record)
            self._say(
                f"{self._place()} {describe_trial(record.spec)}: {describe_outcome(record)}"
                f"{self._as_best(record)}{_codes(record)}{self._left_told()}"
            )
        self._progress.update(self._bar, advance=1, left=self._left())

    def noted(self, message: str) -> None:
        """Take note of something about the sweep as a whole."""
        self._say(f"warning: {message}")

    def _place(self) -> str:
        """Return how many trials have ended for good, of all."""
        return f"[{self._num_finished}/{self._total}]"

    def _as_best(self, record: TrialRecord) -> str:
        """Take note of a training trial; return what to say of it where it is the fastest so far."""
        if record.status != "ok" or record.kind != "training" or record.block is None:
            return ""
        speed = record.block.valid_pixels / record.block.wall_time_s
        is_first, self._best = not self._best, max(speed, self._best)
        if speed < self._best:
            return ""
        self._progress.best = f"{mpx(speed):.3g} valid Mpx/s with {describe_trial(record.spec).partition(': ')[2]}"
        return "" if is_first else ", the fastest so far"

    def _left(self) -> str:
        if not self._remaining:
            return ""
        total_s, most_s = self._times.total(self._remaining), self._budget_left_s()
        return (
            f"at most {format_duration(most_s)} left" if most_s < total_s else f"about {format_duration(total_s)} left"
        )

    def _left_told(self) -> str:
        """Return the time that is left where no bar shows it."""
        return f" ({self._left()})" if self._remaining and not self._console.is_terminal else ""

    def _say(self, line: str) -> None:
        say(self._console, line)


def _codes(record: TrialRecord) -> str:
    """Return the codes of a trial's warnings, whose words stand under the table."""
    codes = dict.fromkeys(warning.code for warning in record.warnings)
    return f"; {', '.join(codes)}" if codes else ""


def describe_trial(spec: TrialSpec) -> str:
    """Return a trial in one line."""
    size = f"micro-batch {spec.micro_batch_size}"
    if spec.kind == "training":
        size = f"batch {spec.batch_size}" + (
            f" = {spec.accumulation_steps} x {spec.micro_batch_size}" if spec.accumulation_steps > 1 else ""
        )
    if spec.kind == "loader":
        switches = {name: getattr(spec, name) for name in LOADER_FIELDS if name in spec.canonical()}
        parts = [f"loader: {size}, {spec.sampler}", count(spec.num_workers or 0, "worker")]
        return ", ".join([*parts, *(f"{name.replace('_', '-')} {value}" for name, value in switches.items())])
    parts = [f"{kind_told(spec)}: {size}", spec.precision]
    if LEVERS["norm_precision"].value(spec) is not None:
        parts.append(f"norm {spec.norm_precision}")
    if spec.checkpointing != "none":
        parts.append(f"checkpointing {spec.checkpointing}")
    if spec.kind == "training":
        parts += [f"{spec.sampler}", count(spec.num_workers or 0, "worker")]
    if isinstance(spec, SnapshotSpec):
        parts.append(spec.snapshot_mode)
    if isinstance(spec, MemorySpec) and spec.soak is not None:
        parts.append(f"after a soak, {spec.sampler} {spec.soak}")
    return ", ".join(parts)


def describe_outcome(record: TrialRecord) -> str:
    """Return how a trial ended in a few words."""
    if record.status != "ok":
        reason = record.cause.message if record.cause else "no reason given"
        return f"{record.status}, {reason}"
    took = f"in {format_duration(record.elapsed_s)}"
    if record.block is not None:
        return f"{mpx(record.block.valid_pixels) / record.block.wall_time_s:.3g} valid Mpx/s {took}"
    if record.stages:
        last = record.stages[-1]
        return f"{last.num_examples / last.wall_time_s:.3g} examples/s up to {last.name} {took}"
    if record.memory is not None:
        peak = record.memory.peak_reserved_bytes or record.memory.peak_allocated_bytes
        return f"{format_bytes(peak)} {took}" if peak is not None else f"ok {took}"
    return f"ok {took}"
