"""An observed run: from what the clock notes of an epoch to the record that it leaves in a results file."""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vnbench.batching.alignment import align
from vnbench.batching.bounds import fewest_padded_pixels
from vnbench.errors import InputError
from vnbench.loops.observing.clock import Clock, Epoch, Step, durations_of
from vnbench.loops.observing.keys import RunKeys, epoch_marks
from vnbench.loops.observing.passes import Pass, Sizes, pass_of
from vnbench.records.failures import summary_line
from vnbench.records.machine_keys import Environment
from vnbench.records.placement import place_results
from vnbench.records.readings import BatchingAccount, MemoryReading, ObservedReading
from vnbench.records.record import Cause, TrialRecord, TrialWarning
from vnbench.records.spec.trial_spec import ObservedSpec
from vnbench.records.step_columns import STEP_COLUMNS
from vnbench.records.store import ResultsFile
from vnbench.sweep.disturbances import find_disturbances
from vnbench.sweep.telemetry import MachineWatch
from vnbench.trial.checks.soundness import warnings_of
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.instruments.memory import cuda_memory, process_memory
from vnbench.trial.measuring.blocks import outliers_of, totals_of
from vnbench.units import count

MANY_CANVASES = 20
"""Distinct canvases of an epoch from which trying all algorithms on each is told: a try takes up to seconds."""

STEPS_AT_ONCE = 64
"""Steps that are turned into rows together: a little work now and then, instead of some after each step."""

Why = Literal["validation", "snapshot", "other"]
"""What a loop does between passes."""

Row = dict[str, Any]
"""The columns of a step."""


class ObservedRun:
    """Watches one run, and appends a record at the end of each of its epochs.

    What fails here is told by a warning and never ends the training, once it has begun.
    """

    def __init__(self, out: str | Path, *, keys: RunKeys, sizes: Sizes | str | None, framework: str | None) -> None:
        """Take what is known of the run, and open its results file, or one beside it for another machine.

        Raises:
            InputError: the file cannot be written, or another process writes it.
        """
        self.clock = Clock(keys.device)
        self.keys = keys
        self._sizes = sizes
        self._framework = framework
        self._environment: Environment = describe_environment("cuda" if keys.device.type == "cuda" else "cpu")
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._start_s = time.monotonic()
        placement = place_results(Path(out), environment=self._environment, corpus_id=keys.loader.corpus_id)
        for note in placement.notes:
            warnings.warn(note, stacklevel=3)
        self._file = ResultsFile(placement.path, environment=self._environment, where="out")
        self._unwritten: deque[TrialRecord] = deque()
        self._spec: ObservedSpec | None = None
        self._replicate = self._num_epochs = self._num_steps = 0
        self._waiting: deque[Step] = deque()
        self._rows: list[Row] = []
        self._losses: list[Any] = []
        self._passes: list[Pass] = []
        self._has_begun = self._has_given_up = False
        self._watch: MachineWatch | None = None
        self._begun_s = 0.0
        self._marks: list[tuple[Any, ...] | None] = []
        self._told: set[str] = set()
        self._num_retries = _num_retries(keys.device)
        self.num_unmeasured = 0
        """Steps that are watched otherwise too, and so count as warm-up."""
        self.cause: Cause | None = None
        """What is wrong with the loop, once it is known."""
        self.expected_passes: int | None = None
        """Passes of a whole step by which a framework divides each loss; None where none divides."""

    @property
    def path(self) -> Path:
        """The results file."""
        return self._file.path

    def now_s(self) -> float:
        """Return the seconds of a clock that never stops."""
        return time.monotonic()

    def leave_out(self, seconds: float, why: Why) -> None:
        """Note that the loop did something between two passes for so long, and goes on now."""
        self.clock.leave_out(seconds, is_validation=why == "validation")
        if why == "snapshot" and self.clock.epoch is not None:
            self.clock.epoch.num_snapshots += 1

    @property
    def is_in_epoch(self) -> bool:
        """Whether an epoch was begun and has not ended, even if it is watched no more."""
        return self._has_given_up or self.clock.epoch is not None

    @contextmanager
    def own_time(self) -> Iterator[None]:
        """Return a context whose time is that of watching."""
        start_s = time.perf_counter()
        yield
        if self.clock.epoch is not None:
            self.clock.epoch.observing_s += time.perf_counter() - start_s

    def begin_epoch(self, number: int, *, loader: Any = None) -> None:
        """Begin an epoch; the clock starts when this returns."""
        self._marks.append(epoch_marks(loader))
        self._watch = MachineWatch(device_uuid=self._environment.get("device_uuid"))
        self._watch.__enter__()
        self._begun_s = time.monotonic()
        self.clock.begin_epoch(number)

    def fetched(self, batch: Any) -> None:
        """Begin a pass on a batch that the loop has now.

        Raises:
            InputError: the first batch of the run does not tell what is needed. If a later one does not, its epoch
                leaves no record.
        """
        try:
            seen = pass_of(batch, self._sizes)
            if not self._has_begun:
                seen.valid_sizes_B2()
        except Exception as error:
            if not self._has_begun:
                raise
            self._give_up_epoch(error)
            return
        self._has_begun = True
        self.clock.fetched(seen)

    def _give_up_epoch(self, error: Exception) -> None:
        """Watch no more of this epoch: a training goes on, whatever its observer cannot do."""
        epoch = self.clock.end_epoch()
        self._has_given_up = True
        if epoch is not None:
            warnings.warn(f"vnbench: epoch {epoch.number} leaves no record: {summary_line(error)}", stacklevel=2)

    def end_pass(self, *, has_stepped: bool, is_skipped: bool = False, loss: Any = None) -> None:
        """End a pass."""
        self.clock.end_pass(has_stepped=has_stepped, is_skipped=is_skipped, loss=loss)
        self._take_steps(is_last=False)

    def end_epoch(self) -> None:
        """End the epoch, and append its record if an optimizer step ended in it."""
        epoch = self.clock.end_epoch()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.__exit__(None, None, None)
        if epoch is None or watch is None:
            self._forget_epoch()
            return
        try:
            self._take_steps(is_last=True, epoch=epoch)
            if self._rows:
                self._unwritten.append(self._record(epoch, watch))
        except Exception as error:
            self.clock.epoch = epoch
            self._give_up_epoch(error)
        self._forget_epoch()
        self._write()

    def _forget_epoch(self) -> None:
        self._has_given_up = False
        self._rows, self._losses, self._passes = [], [], []
        self._waiting.clear()

    def close(self) -> None:
        """End the run; of an epoch that is not over, the steps that ended are kept."""
        self.end_epoch()
        self._file.close()

    # Steps.

    def _take_steps(self, *, is_last: bool, epoch: Epoch | None = None) -> None:
        """Turn the steps whose end the device has reached into rows; at the end of an epoch wait for the last ones."""
        epoch = epoch or self.clock.epoch
        if epoch is None or (not is_last and len(epoch.steps) < STEPS_AT_ONCE):
            return
        self._waiting.extend(epoch.steps)
        epoch.steps.clear()
        if is_last and self._waiting and self.keys.device.type == "cuda":
            torch.cuda.synchronize(self.keys.device)
        while self._waiting and _is_over(self._waiting[0]):
            self._take(self._waiting.popleft())

    def _take(self, step: Step) -> None:
        passes = [one.seen for one in step.passes]
        self._passes += passes
        self._losses.append([one.loss for one in passes])
        self._rows.append(
            {
                "is_warm_up": self._num_steps < max(self.keys.num_warm_up_steps, self.num_unmeasured),
                "block": self._num_epochs,
                "num_examples": sum(one.num_examples for one in passes),
                "num_micro_batches": len(passes),
                "padded_pixels": sum(one.padded_pixels for one in passes),
                "canvas_height": max(one.canvas[0] for one in passes),
                "canvas_width": max(one.canvas[1] for one in passes),
                **durations_of(step),
                "is_skipped_by_scaler": step.is_skipped,
                "is_snapshot": any(one.has_snapshot for one in passes),
                "is_after_validation": any(one.is_after_validation for one in passes),
            }
        )
        self._num_steps += 1

    # Records.

    def _record(self, epoch: Epoch, watch: MachineWatch) -> TrialRecord[ObservedSpec]:
        sizes = [one.valid_sizes_B2() for one in self._passes]
        columns = self._columns(sizes)
        spec = self._spec = self._spec or self._first_spec()
        if self._num_epochs == 0:
            self._replicate = self._next_replicate(spec)
        end_s = time.monotonic()
        telemetry = watch.telemetry((self._begun_s, end_s))
        full = [one for one in self._passes if one.num_examples == spec.micro_batch_size] or self._passes
        largest = max(full, key=lambda one: one.padded_pixels)
        record = TrialRecord(
            spec=spec,
            replicate=self._replicate,
            attempt=self._num_epochs,
            status="ok" if self.cause is None else "wrong",
            cause=self.cause,
            environment=self._environment,
            started_at=self._started_at,
            elapsed_s=end_s - self._start_s,
            steps={name: tuple(columns[name]) for name in STEP_COLUMNS},
            block=totals_of(columns, wall_time_s=_measured_s(columns)),
            measured_span_s=(self._begun_s - self._start_s, end_s - self._start_s),
            batching=_account(self._passes, sizes, num_steps=len(self._rows)),
            memory=self._memory(),
            telemetry=telemetry,
            observed=ObservedReading(
                epoch=epoch.number,
                framework=self._framework,
                sampler=self.keys.loader.sampler_class,
                num_passes=spec.accumulation_steps,
                num_short_steps=sum(one < spec.accumulation_steps for one in columns["num_micro_batches"]),
                largest_canvas=largest.canvas,
                num_snapshots=epoch.num_snapshots,
                validation_s=epoch.validation_s,
                observing_s=epoch.observing_s,
            ),
        )
        self._num_epochs += 1
        found = (*warnings_of(record), *find_disturbances(telemetry, kind=spec.kind), *self._own_warnings(record))
        self._tell(found)
        return replace(record, warnings=found)

    def _columns(self, sizes: Sequence[Any]) -> dict[str, list[Any]]:
        losses = iter(_means(self._losses))
        pixels = iter(sizes)
        for row in self._rows:
            row["valid_pixels"] = sum(int(next(pixels).prod(axis=1).sum()) for _ in range(row["num_micro_batches"]))
            row["loss"] = next(losses)
        columns = {name: [row[name] for row in self._rows] for name in STEP_COLUMNS if name != "is_outlier"}
        return columns | {"is_outlier": outliers_of(columns, is_per_canvas=False)}

    def _first_spec(self) -> ObservedSpec:
        """Return the spec with the batches as they were seen: a loop may step otherwise than its sampler plans."""
        micro_batch_size = max(one.num_examples for one in self._passes)
        batch_size = micro_batch_size * max(row["num_micro_batches"] for row in self._rows)
        own = self.keys.loader.own
        if own is not None and own.config.batch_size == max(row["num_examples"] for row in self._rows):
            batch_size, micro_batch_size = own.config.batch_size, own.config.micro_batch_size
        return self.keys.spec(
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            num_examples=sum(one.num_examples for one in self._passes),
        )

    def _next_replicate(self, spec: ObservedSpec) -> int:
        """Return the number of this run among those of equal keys in the file: each process is a repetition."""
        return 1 + max((one.replicate for one in self._file.records if one.spec_id == spec.spec_id), default=-1)

    def _memory(self) -> MemoryReading:
        if self.keys.device.type == "cuda":
            return cuda_memory(self.keys.device, num_retries_before=self._num_retries)
        return process_memory()

    # Warnings.

    def _own_warnings(self, record: TrialRecord[ObservedSpec]) -> Iterator[TrialWarning]:
        seen = record.observed
        assert seen is not None
        last = self._rows[-1]["num_micro_batches"]
        if self.expected_passes is not None and last < self.expected_passes:
            yield TrialWarning(
                code="short-window",
                message=(
                    f"the last optimizer step of the epoch has {last} of {count(self.expected_passes, 'pass')}, and "
                    f"Lightning divides each loss by {self.expected_passes} all the same: its gradient is too small "
                    "unless training_step makes up for it, see vnbench guide loop"
                ),
                figures={"num_passes": last, "num_divided_by": self.expected_passes},
            )
        if len(self._marks) > 1 and self._marks[-1] is not None and self._marks[-1] == self._marks[-2]:
            yield TrialWarning(
                code="same-epoch",
                message=(
                    f"{seen.sampler} was not told of epoch {seen.epoch}: it may repeat the order of the one before; "
                    "call set_epoch on it at the start of each"
                ),
            )
        canvases = {one.canvas for one in self._passes}
        if (
            self.keys.device.type == "cuda"
            and self._environment.get("cudnn_benchmark")
            and len(canvases) > MANY_CANVASES
        ):
            yield TrialWarning(
                code="benchmark-canvases",
                message=(
                    f"torch.backends.cudnn.benchmark is on, and {len(canvases)} canvases are each tried with every "
                    "algorithm: switch it off, or limit the canvases with shapes="
                ),
                figures={"num_canvases": len(canvases)},
            )

    def _tell(self, found: Sequence[TrialWarning]) -> None:
        """Warn of what was not told before; what is a matter of noise stands in the records alone."""
        for one in found:
            if one.code in ("short-window", "same-epoch", "benchmark-canvases") and one.code not in self._told:
                self._told.add(one.code)
                warnings.warn(f"vnbench: {one.message}", stacklevel=2)

    def _write(self) -> None:
        """Append what was not written yet; where the disk is full, try again after the next epoch."""
        while self._unwritten:
            try:
                self._file.append(self._unwritten[0])
            except InputError as error:
                warnings.warn(f"vnbench: {error}; it is tried again after the next epoch", stacklevel=2)
                return
            self._unwritten.popleft()


def _is_over(step: Step) -> bool:
    end = step.passes[-1].end
    return end is not None and end.is_reached()


def _num_retries(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    stats: Callable[[torch.device], dict[str, int]] = torch.cuda.memory_stats
    return stats(device).get("num_alloc_retries", 0)


def _measured_s(columns: dict[str, list[Any]]) -> float:
    """Return the seconds of the measured steps; what came between them is not theirs."""
    pairs = zip(columns["step_time_s"], columns["is_warm_up"], strict=True)
    return math.fsum(seconds or 0.0 for seconds, is_warm_up in pairs if not is_warm_up)


def _means(losses: Sequence[Sequence[Any]]) -> list[float | None]:
    """Return the mean loss over the passes of each step; None where one is unknown or not finite.

    Losses on the device come to the host together.
    """
    on_device = [one for step in losses for one in step if isinstance(one, Tensor)]
    values = iter(torch.stack([one.float().reshape(()) for one in on_device]).tolist() if on_device else [])
    means: list[float | None] = []
    for step in losses:
        known = [next(values) if isinstance(one, Tensor) else one for one in step]
        mean = math.nan if None in known else math.fsum(map(float, known)) / len(known)
        means.append(mean if math.isfinite(mean) else None)
    return means


def _account(passes: Sequence[Pass], sizes: Sequence[Any], *, num_steps: int) -> BatchingAccount:
    """Return the padding account of an epoch as it was seen."""
    sizes_N2 = np.concatenate(sizes)
    valid, padded = int(sizes_N2.prod(axis=1).sum()), sum(one.padded_pixels for one in passes)
    is_aligned = all(align(side) == side for one in passes for side in one.canvas)
    least = fewest_padded_pixels(
        (align(sizes_N2) if is_aligned else sizes_N2).prod(axis=1),
        num_micro_batches=len(passes),
        micro_batch_size=max(one.num_examples for one in passes),
    )
    return BatchingAccount(
        num_examples=len(sizes_N2),
        num_batches=len(passes),
        num_steps=num_steps,
        valid_pixels=valid,
        padded_pixels=padded,
        padding_ratio=1 - valid / padded,
        lower_bound_padding_ratio=1 - valid / least,
        distinct_shapes=len({(one.num_examples, *one.canvas) for one in passes}),
        repeated_pair_ratio=None,
        largest_padded_pixels=max(one.padded_pixels for one in passes),
    )
