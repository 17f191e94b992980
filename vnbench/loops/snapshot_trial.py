"""The snapshot trial: training with snapshots and without in turn, and a fresh process that goes on from one."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vnbench.errors import ChildError, InputError
from vnbench.loops.planned_run import PlannedRun
from vnbench.loops.snapshot import Position, Run, Snapshots, read
from vnbench.processes.scratch import scratch_folder
from vnbench.records.drill_task import DrillLine, DrillTask
from vnbench.records.readings import RestartReading, SnapshotReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import SnapshotSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.drilling import Ended, follow
from vnbench.sweep.estimate import MAX_EPOCH_PAIRS, MIN_EPOCH_PAIRS
from vnbench.trial.entry import run_by
from vnbench.trial.instruments.memory import free_unheld_memory

MEASURED_EPOCH = 1
"""Epoch of the plan that is trained again and again, so that epochs differ by snapshots and noise alone."""

MAX_SAVES = 8
"""Most snapshots of an epoch, and as many readings of one."""

SILENT_S = 300.0
"""Seconds without a word after which the fresh process counts as hung."""


def run(payload: str) -> str:
    """Run the snapshot trial of a TrialTask (JSON) and return its TrialRecord (JSON). No exception leaves this."""
    task: TrialTask[SnapshotSpec] = TrialTask.from_json(payload)  # type: ignore[assignment]  # the runner chose by kind
    return run_by(measure_snapshots, task).to_json()


def measure_snapshots(task: TrialTask[SnapshotSpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record after each pair of epochs, and at last with what going on takes.

    Raises:
        InputError: snapshots cannot be kept in the folder.
        ChildError: the process that goes on fails.
    """
    spec = task.spec
    target = None if spec.snapshot_target is None else Path(spec.snapshot_target)
    if target is not None and not target.is_dir():
        raise InputError("--snapshot-target", target, allowed="there is no such folder", remedy="make it, or name one")
    start_s = time.monotonic()
    with scratch_folder("vnbench-snapshots-", parent=target) as kept:
        trained = _Training(task, kept / "run")
        trained.epoch(epoch=0, has_snapshots=False)  # in which all shapes are met
        first_s = time.monotonic()
        while not trained.is_enough(time.monotonic() - first_s, max_measuring_s=spec.max_measuring_s or 0.0):
            trained.pair()
            span_s = (first_s, time.monotonic())
            yield replace(record, snapshot=trained.reading(kept), measured_span_s=span_s)
        trained.read_back()
        warm_s = trained.step_times_s
        reading = trained.reading(kept)
        trained.close()
        going_on = DrillTask(
            trial=task,
            num_epochs=MEASURED_EPOCH + 1,
            folder=str(kept / "run"),
            mode="sync",
            interval=None,
        )
        restart = _restarted(going_on, warm_s)
        yield replace(record, snapshot=replace(reading, restart=restart), measured_span_s=(start_s, time.monotonic()))


@dataclass(slots=True)
class _Epochs:
    """Seconds of what was measured."""

    pairs_s: list[tuple[float, float]] = field(default_factory=list)
    held_up_s: list[float] = field(default_factory=list)
    written_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)


class _Training:
    """A run whose epochs are trained with snapshots or without."""

    def __init__(self, task: TrialTask[SnapshotSpec], folder: Path) -> None:
        self._planned: PlannedRun | None = PlannedRun(task)
        step, sampler = self._planned.step, self._planned.sampler
        self._run: Run | None = Run(
            model=step.model,
            optimizer=step.optimizer,
            sampler=sampler,
            scaler=step.scaler,
            settings={"precision": task.spec.precision, "model": task.spec.model},
        )
        self._device = step.device
        self._snapshots = Snapshots(folder, mode=task.spec.snapshot_mode)
        self._folder = folder
        self._found = _Epochs()
        self._num_steps = 0
        self._num_saves = 0
        self.step_times_s: tuple[float, ...] = ()
        """Seconds of each step of the last epoch without snapshots."""

    def is_enough(self, seconds: float, *, max_measuring_s: float) -> bool:
        """Return whether so many seconds of measuring do."""
        num_pairs = len(self._found.pairs_s)
        return num_pairs >= MIN_EPOCH_PAIRS and (seconds >= max_measuring_s or num_pairs >= MAX_EPOCH_PAIRS)

    def pair(self) -> None:
        """Train an epoch with snapshots and one without, each first in every second pair."""
        order = (False, True) if len(self._found.pairs_s) % 2 else (True, False)
        seconds = {one: self.epoch(epoch=MEASURED_EPOCH, has_snapshots=one) for one in order}
        self._found.pairs_s.append((seconds[False], seconds[True]))

    def epoch(self, *, epoch: int, has_snapshots: bool) -> float:
        """Train an epoch, and return the seconds of its steps and of what snapshots held up."""
        assert self._planned is not None
        sampler = self._planned.sampler
        sampler.set_epoch(epoch)
        steps, batches = self._planned.remaining()
        self._num_steps, num_saves = len(steps), min(MAX_SAVES, len(steps))
        # Steps come after each, so that what is written beside them is seen in their times.
        due = {max(1, (2 * number + 1) * len(steps) // (2 * num_saves)) for number in range(num_saves)}
        self._num_saves = len(due)
        times_s, total_s = [], 0.0
        batches = itertools.chain([next(batches)], batches)  # workers start before anything is timed
        for number, planned in enumerate(steps, start=1):
            start_s = time.monotonic()
            self._planned.train(planned, batches)
            times_s.append(time.monotonic() - start_s)
            if has_snapshots and number in due:
                total_s += self._save(Position(epoch=epoch, next_step=number))
        self._snapshots.wait()
        if not has_snapshots:
            self.step_times_s = tuple(times_s)
        return total_s + sum(times_s)

    def _save(self, here: Position) -> float:
        """Save a snapshot, and return the seconds for which it held up training."""
        assert self._run is not None
        start_s = time.monotonic()
        self._snapshots.save(self._run, here)
        held_up_s = time.monotonic() - start_s
        self._found.held_up_s.append(held_up_s)
        return held_up_s

    def read_back(self) -> None:
        """Write snapshots with nothing beside them, and read each."""
        assert self._planned is not None
        assert self._run is not None
        sampler = self._planned.sampler
        sampler.set_epoch(MEASURED_EPOCH)
        for _ in range(self._num_saves):
            start_s = time.monotonic()
            self._snapshots.save(self._run, Position(epoch=MEASURED_EPOCH, next_step=0))
            self._snapshots.wait()
            self._found.written_s.append(time.monotonic() - start_s)
            start_s = time.monotonic()
            read(self._last())
            self._found.read_s.append(time.monotonic() - start_s)

    def reading(self, place: Path) -> SnapshotReading:
        """Return what was measured so far."""
        self._snapshots.wait()
        return SnapshotReading(
            num_bytes=self._last().stat().st_size,
            file_system=file_system_of(place),
            num_steps=self._num_steps,
            num_saves=self._num_saves,
            held_up_s=tuple(self._found.held_up_s),
            written_s=tuple(self._found.written_s),
            read_s=tuple(self._found.read_s),
            epoch_pairs_s=tuple(self._found.pairs_s),
            restart=None,
        )

    def close(self) -> None:
        """Release folder and device, for the process that goes on."""
        self._snapshots.__exit__(None, None, None)
        self._planned = self._run = None
        free_unheld_memory(self._device)

    def _last(self) -> Path:
        return max(self._folder.glob("snapshot-*"))


def _restarted(task: DrillTask, warm_s: Sequence[float]) -> RestartReading:
    """Go on from a snapshot in a fresh process for an epoch, and return what that takes beyond its steps.

    ``warm_s`` holds the seconds of these steps in a process that met their shapes before.

    Raises:
        ChildError: it fails, or says nothing for too long.
    """
    start_s = time.monotonic()
    subprocess.run([sys.executable, "-c", ""], check=True, stdin=subprocess.DEVNULL)
    interpreter_s = time.monotonic() - start_s
    ended = follow(task, when=lambda line: None, timeout_s=SILENT_S)
    if ended.exit_code or not ended.lines or ended.lines[-1].word != "end":
        raise ChildError(f"the process that goes on ended by itself: {ended.error or f'exit code {ended.exit_code}'}")
    at_s = {line.word: line.at_s for line in reversed(ended.lines)}
    return RestartReading(
        interpreter_s=interpreter_s,
        imports_s=max(0.0, at_s["imported"] - ended.started_s - interpreter_s),
        set_up_s=at_s["ready"] - at_s["imported"],
        load_s=at_s["begin"] - at_s["ready"],
        loader_s=at_s["fetched"] - at_s["begin"],
        first_steps_s=max(0.0, sum(_step_times_s(ended)) - sum(warm_s)),
    )


def _step_times_s(ended: Ended) -> Iterator[float]:
    lines: list[DrillLine] = [line for line in ended.lines if line.word in ("loading", "step")]
    return (after.at_s - before.at_s for before, after in itertools.pairwise(lines) if after.word == "step")


def file_system_of(place: Path) -> str | None:
    """Return the type of the file system that holds a folder, such as ext4 or tmpfs; None without /proc."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    resolved = place.resolve()
    mounts = [
        (Path(fields[1].encode().decode("unicode_escape")), fields[2]) for line in lines if (fields := line.split())
    ]
    held = [(len(point.parts), kind) for point, kind in mounts if resolved.is_relative_to(point)]
    return max(held)[1] if held else None
