"""The memory profile of one worst-case training step by stage and kind, in its own process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from vnbench.records.failures import classify
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.task import TrialTask
from vnbench.trial.instruments import timing
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.instruments.memory import (
    is_cuda_full,
    num_cuda_ooms,
    process_peak_rss_bytes,
    process_rss_bytes,
    reset_cuda_peaks,
)
from vnbench.trial.instruments.stage_memory import (
    OUTSIDE,
    Kind,
    Phase,
    StageMemory,
    StageTracker,
    optimizer_tensors,
    watched_stages,
)
from vnbench.trial.measuring.drawn_batch import drawn_batch
from vnbench.trial.step.network import SMALLEST_SIDE, parts_of
from vnbench.trial.step.optimizer_step import build_step
from vnbench.trial.step.switches import set_switches

PHASES: dict[timing.Phase, tuple[Phase, Kind | None]] = {
    "data_wait": ("forward", "inputs"),
    "h2d": ("forward", "inputs"),
    "forward": ("forward", None),
    "backward": ("backward", None),
    "optimizer": ("optimizer", None),
}
"""Tracker's phase for each phase of a step, and the kind of the tensors made in it if the phase does not decide."""

SNAPSHOT_NAME = "memory_snapshot.pickle"
"""File of torch's allocator history, for torch's viewer (CUDA)."""


class PhaseTimer:
    """Reports a step's phases to a tracker; measures no time."""

    def __init__(self, tracker: StageTracker) -> None:
        self._tracker = tracker

    def begin_block(self) -> None:
        """Do nothing."""

    def begin_step(self) -> None:
        """Do nothing."""

    def phase(self, name: timing.Phase) -> AbstractContextManager[None]:
        """Report the start of a phase to the tracker."""
        phase, kind = PHASES[name]
        self._tracker.begin(phase, kind=kind)
        return nullcontext()

    def end_block(self) -> tuple[timing.PhaseTimes, float]:
        """Return no times."""
        return {}, 0.0


def run(payload: str) -> str:
    """Run the step of a TrialTask (JSON) and return its memory (JSON). No exception leaves this function.

    The task's ``corpus_directory`` is the folder for torch's snapshot on CUDA; if it is None, no snapshot is written.
    """
    task = TrialTask.from_json(payload)
    answer: dict[str, Any] = {"spec": task.spec.canonical(), "status": "ok", "cause": None, "environment": {}}
    try:
        set_switches(task.spec)
        answer["environment"] = describe_environment(task.spec.device)
        assert isinstance(task.spec, MemorySpec)
        answer |= _profile(task.spec, task.corpus_directory)
    except Exception as error:  # the outermost frame of the child: every failure becomes an answer
        status, cause = classify(
            error,
            num_device_ooms=num_cuda_ooms(),
            is_device_full=is_cuda_full(),
            has_memory_limit=task.spec.memory_limit_bytes is not None,
        )
        answer |= {"status": status, "cause": {"kind": cause.kind, "message": cause.message}}
    return json.dumps(answer)


def _profile(spec: MemorySpec, directory: str | None) -> dict[str, Any]:
    device = torch.device(spec.device)
    step = build_step(spec, device=device)
    smallest = drawn_batch(spec, height=SMALLEST_SIDE, width=SMALLEST_SIDE, num_examples=1)
    batch = drawn_batch(
        spec, height=spec.worst_case_height, width=spec.worst_case_width, num_examples=spec.micro_batch_size
    )
    # Make the optimizer's state first, as in every step of training except the first.
    step.run(iter([smallest]), num_examples=1, timer=timing.make_timer(device))
    step.optimizer.zero_grad(set_to_none=True)

    tracker = StageTracker()
    stages = parts_of(step.model)
    with _snapshot(device, directory), tracker, watched_stages(tracker, stages):
        for stage, module in stages.items():
            tracker.track_as([*module.parameters(), *module.buffers()], kind="parameters", stage=stage)
        tracker.track_as(optimizer_tensors(step.optimizer), kind="optimizer state", stage=OUTSIDE)
        if device.type == "cuda":
            reset_cuda_peaks(device)
        else:
            tracker.track_as(list(batch), kind="inputs", stage=OUTSIDE)
        held_bytes = _reset_peak_rss()
        step.run(iter([batch]), num_examples=spec.micro_batch_size, timer=PhaseTimer(tracker))
        seen = tracker.result()
        measured, instrument = _measured(device, held_bytes)
    tracker.close()
    return _answer(seen, measured_bytes=measured, instrument=instrument, stages=list(stages))


def _measured(device: torch.device, held_bytes: int | None) -> tuple[int | None, str]:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "cuda-caching-allocator"
    peak_bytes = process_peak_rss_bytes()
    return None if peak_bytes is None or held_bytes is None else peak_bytes - held_bytes, "process"


def _reset_peak_rss() -> int | None:
    """Reset the process's peak and return its resident bytes; None if the kernel does not offer it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return None
    return process_rss_bytes()


@contextmanager
def _snapshot(device: torch.device, directory: str | None) -> Iterator[None]:
    """Write torch's allocator history for its viewer, pytorch.org/memory_viz (CUDA)."""
    if device.type != "cuda" or directory is None:
        yield
        return
    # By default torch also resolves C++ frames: 461 s instead of 4 s for 100,000 entries (torchtitan#3628).
    torch.cuda.memory._record_memory_history(stacks="python", max_entries=100_000)
    try:
        yield
    except Exception:
        # After some faults CUDA stops answering; report the fault itself.
        with suppress(RuntimeError):
            _write_snapshot(Path(directory))
        raise
    _write_snapshot(Path(directory))


def _write_snapshot(directory: Path) -> None:
    torch.cuda.memory._dump_snapshot(  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        str(directory / SNAPSHOT_NAME)
    )
    torch.cuda.memory._record_memory_history(enabled=None)


def _answer(seen: StageMemory, *, measured_bytes: int | None, instrument: str, stages: list[str]) -> dict[str, Any]:
    def cells(live: Any) -> list[list[Any]]:
        return [[stage, kind, size] for (stage, kind), size in live.items() if size]

    return {
        "stages": [*stages, OUTSIDE],
        "tracked_peak_bytes": seen.peak_bytes,
        "measured_peak_bytes": measured_bytes,
        "instrument": instrument,
        "peak_phase": seen.peak_phase,
        "peak_stage": seen.peak_stage,
        "at_peak": cells(seen.at_peak),
        "timeline": [[phase, cells(live)] for phase, live in seen.timeline],
    }
