"""How far a sweep is, on stderr: a live bar on a terminal, one plain line per trial elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vnbench.output.console import say
from vnbench.output.words.levers import kind_told
from vnbench.records.record import TrialRecord
from vnbench.records.spec.axes import LOADER_FIELDS
from vnbench.records.spec.trial_spec import LEVERS, MemorySpec, TrialSpec
from vnbench.sweep.estimate import TrialTimes
from vnbench.units import count, format_bytes, format_duration, mpx


class SweepProgress:
    """Tells of each trial as it starts and ends, with an estimate of the time that is left."""

    def __init__(self, due: Sequence[TrialSpec], *, times: TrialTimes, console: Console) -> None:
        """``times`` learns from each trial that ends."""
        self._remaining = list(due)
        self._num_finished = 0
        self._waiting: dict[str, TrialRecord] = {}
        self._times = times
        self._console = console
        self._total = len(due)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bar = self._progress.add_task("starting", total=self._total, left=self._left())

    def __enter__(self) -> SweepProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, spec: TrialSpec, number: int) -> None:
        """Take note that a try at a trial starts, the first with ``number`` 1."""
        again = f", try {number}" if number > 1 else ""
        self._progress.update(self._bar, description=f"{describe_trial(spec)}{again}", left=self._left())
        if not self._console.is_terminal:
            self._say(f"{self._place()} {describe_trial(spec)}{again} ({self._left()})")

    def repeated(self, record: TrialRecord) -> None:
        """Take note that a trial ended disturbed, and waits behind all others for another try."""
        self._tell(record, then="; disturbed, so once more at the end")
        self._waiting[record.trial_id] = record
        self._remaining.remove(record.spec)
        self._remaining.append(record.spec)
        self._progress.update(self._bar, left=self._left())

    def finished(self, record: TrialRecord) -> None:
        """Take note that a trial ended for good, or was skipped; of a try that was told before it says nothing."""
        if record is not self._waiting.pop(record.trial_id, None):
            self._tell(record)
        self._num_finished += 1
        self._remaining.remove(record.spec)
        self._progress.update(self._bar, advance=1, left=self._left())

    def noted(self, message: str) -> None:
        """Take note of something about the sweep as a whole."""
        self._say(f"warning: {message}")

    def _tell(self, record: TrialRecord, *, then: str = "") -> None:
        self._times.learn(record)
        self._say(f"{self._place()} {describe_trial(record.spec)}: {describe_outcome(record)}{then}")
        for warning in record.warnings:
            self._say(f"    warning: {warning.message}")

    def _place(self) -> str:
        return f"[{self._num_finished + 1}/{self._total}]"

    def _left(self) -> str:
        if not self._remaining:
            return ""
        return f"about {format_duration(self._times.total(self._remaining))} left"

    def _say(self, line: str) -> None:
        say(self._console, line)


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
