"""One trial, inside its own process: build everything that a spec names, measure, return the record."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vnbench.data.batching import BatchPlan, account_for_sampler, align, plan_epoch
from vnbench.data.collate import Batch, collate
from vnbench.data.corpus import Corpus, load_corpus
from vnbench.data.loader import make_loader
from vnbench.data.raster import draw_example
from vnbench.data.subset import choose_subset
from vnbench.errors import CorpusError
from vnbench.harness.failures import classify
from vnbench.harness.step import OptimizerStep, StepResult
from vnbench.harness.task import TrialTask
from vnbench.measure.environment import describe_environment
from vnbench.measure.memory import (
    LiveTensorTracker,
    cuda_memory,
    keep_freed_memory,
    process_memory,
    tracked_memory,
)
from vnbench.measure.timing import PhaseTimes, StepTimer, make_timer
from vnbench.model.veernet import build_model
from vnbench.record import (
    STEP_COLUMNS,
    Block,
    Cause,
    MemoryReading,
    TrialRecord,
    TrialWarning,
)
from vnbench.spec import ALIGNMENT, TrialSpec

MIN_MEASURED_STEPS = 5
"""Fewer measured steps than this say little about their own spread; the record then warns."""

MEASURED_EPOCH = 1
"""Epoch of the subset that is measured; warm-up takes its steps from epoch 0."""


def run(payload: str) -> str:
    """Run the trial of a TrialTask (JSON) and return its TrialRecord (JSON). No exception leaves this function."""
    task = TrialTask.from_json(payload)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    start = time.monotonic()
    record = TrialRecord(
        spec=task.spec,
        replicate=task.replicate,
        attempt=task.attempt,
        status="ok",
        cause=None,
        environment={},
        started_at=started_at,
        elapsed_s=0.0,
    )
    try:
        record = replace(record, environment=describe_environment(task.spec.device))
        measure = _measure_memory if task.spec.kind == "memory" else _measure_training
        record = measure(task, record)
    except Exception as error:  # the outermost frame of the child: whatever happened becomes the record
        status, cause = classify(error)
        record = replace(record, status=status, cause=cause)
    return replace(record, elapsed_s=time.monotonic() - start).to_json()


def _measure_memory(task: TrialTask, record: TrialRecord) -> TrialRecord:
    """Return the record with the peak memory of one training step on worst-case examples."""
    spec = task.spec
    assert spec.worst_case_height is not None
    assert spec.worst_case_width is not None
    device = torch.device(spec.device)
    step = _build_step(spec, device)
    smallest = _drawn_batch(spec, height=ALIGNMENT, width=ALIGNMENT, num_examples=1)
    worst_case = _drawn_batch(
        spec, height=spec.worst_case_height, width=spec.worst_case_width, num_examples=spec.micro_batch_size
    )
    # The first step makes the optimizer's state. In the second a smallest micro-batch goes first, so that the worst
    # case meets what it meets in training: optimizer state and, under accumulation, gradients of an earlier pass.
    step.run(iter([smallest]), num_examples=1, timer=make_timer(device))

    def worst_case_step() -> StepResult:
        batches = iter([smallest, worst_case])
        return step.run(batches, num_examples=1 + spec.micro_batch_size, timer=make_timer(device))

    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        result = worst_case_step()
        torch.cuda.synchronize()
        memory = cuda_memory(device)
    else:
        result, memory = _tracked(step, (smallest, worst_case), worst_case_step)
    loss = float(result.loss)
    return _checked_loss(
        replace(record, memory=memory, warnings=tuple(_memory_warnings(memory))), [loss], is_skipped=[False]
    )


def _tracked(step: OptimizerStep, batches: Sequence[Batch], run_step: Any) -> tuple[StepResult, MemoryReading]:
    tracker = LiveTensorTracker()
    existing = [*step.model.parameters(), *step.model.buffers()]
    existing += [parameter.grad for parameter in step.model.parameters() if parameter.grad is not None]
    existing += [value for state in step.optimizer.state.values() for value in state.values()]
    existing += [tensor for batch in batches for tensor in batch]
    with tracker:
        tracker.track(existing)
        result: StepResult = run_step()
    tracker.close()
    return result, tracked_memory(tracker.peak_bytes)


def _measure_training(task: TrialTask, record: TrialRecord) -> TrialRecord:
    """Return the record with the steps of one epoch of the subset, warm-up steps before it."""
    spec = task.spec
    assert spec.sampler is not None
    assert spec.num_workers is not None
    assert spec.subset_size is not None
    assert spec.num_warm_up_steps is not None
    corpus = _load_the_corpus(task)
    device = torch.device(spec.device)
    train_sizes = corpus.sizes_N2[corpus.train_indices]
    chosen = corpus.train_indices[choose_subset(train_sizes, subset_size=spec.subset_size)]
    warm_up = _warm_up_steps(_plan(spec, corpus, chosen, epoch=0), corpus.sizes_N2, count=spec.num_warm_up_steps)
    measured = _plan(spec, corpus, chosen, epoch=MEASURED_EPOCH).steps
    batching = account_for_sampler(
        train_sizes,
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        seed=spec.seed,
    )
    record = replace(record, batching=batching)

    step = _build_step(spec, device)
    steps = (*warm_up, *measured)
    loader = make_loader(
        corpus,
        [micro_batch for planned in steps for micro_batch in planned],
        num_workers=spec.num_workers,
        pin_memory=device.type == "cuda",
        num_classes=spec.num_classes,
    )
    batches: Iterator[Batch] = iter(loader)
    warm_up_times, _, warm_up_results = _run_block(step, batches, warm_up, timer=make_timer(device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    measured_times, wall_time_s, results = _run_block(step, batches, measured, timer=make_timer(device))
    memory = cuda_memory(device) if device.type == "cuda" else process_memory()

    is_skipped = _skipped_by_scaler([*warm_up_results, *results])
    losses = [float(result.loss) for result in (*warm_up_results, *results)]
    columns = _shape_columns(steps, corpus.sizes_N2)
    columns["is_warm_up"] = [True] * len(warm_up) + [False] * len(measured)
    columns |= {name: warm_up_times[name] + measured_times[name] for name in measured_times}
    columns["loss"] = [loss if math.isfinite(loss) else None for loss in losses]
    columns["is_skipped_by_scaler"] = is_skipped
    record = replace(
        record,
        steps={name: tuple(columns[name]) for name in STEP_COLUMNS},
        block=_block(columns, wall_time_s),
        memory=memory,
        warnings=tuple(_memory_warnings(memory)) + tuple(_step_warnings(measured, is_skipped[len(warm_up) :])),
    )
    return _checked_loss(record, losses, is_skipped=is_skipped)


def _load_the_corpus(task: TrialTask) -> Corpus:
    assert task.corpus_directory is not None
    corpus = load_corpus(task.corpus_directory)
    if corpus.corpus_id != task.spec.corpus_id:
        raise CorpusError(
            f"{task.corpus_directory}: the corpus changed since the sweep was planned "
            f"({task.spec.corpus_id} then, {corpus.corpus_id} now); start the sweep again"
        )
    return corpus


def _build_step(spec: TrialSpec, device: torch.device) -> OptimizerStep:
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(spec.seed)
    model = build_model(
        spec.model,
        num_classes=spec.num_classes,
        norm_groups=spec.norm_groups,
        norm_precision=spec.norm_precision,
        checkpointing=spec.checkpointing,
    )
    return OptimizerStep(model.to(device).train(), precision=spec.precision, device=device)


def _drawn_batch(spec: TrialSpec, *, height: int, width: int, num_examples: int) -> Batch:
    example = draw_example(seed=spec.seed, index=0, height=height, width=width, task=spec.task)
    return collate([example] * num_examples)


def _plan(spec: TrialSpec, corpus: Corpus, chosen: NDArray[np.int64], *, epoch: int) -> BatchPlan:
    """Return the plan of one epoch of the chosen examples, in indices of the corpus."""
    assert spec.sampler is not None
    plan = plan_epoch(
        corpus.sizes_N2[chosen],
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        seed=spec.seed,
        epoch=epoch,
    )
    return BatchPlan(
        steps=tuple(
            tuple(tuple(int(chosen[index]) for index in micro_batch) for micro_batch in step) for step in plan.steps
        )
    )


PlannedStep = tuple[tuple[int, ...], ...]
"""Micro-batches of example indices."""


def _warm_up_steps(plan: BatchPlan, sizes_N2: NDArray[np.int64], *, count: int) -> tuple[PlannedStep, ...]:
    """Return ``count`` steps of a plan, the one with the largest canvas first.

    The largest canvas makes the allocator (or the heap) take at once what it will need; ascending ones would make it
    ask again and again, inside the measured block too.
    """

    def largest_canvas(step: PlannedStep) -> int:
        return max(_canvas_pixels(micro_batch, sizes_N2) for micro_batch in step)

    ordered = sorted(plan.steps, key=largest_canvas, reverse=True)
    return tuple(ordered[i % len(ordered)] for i in range(count))


def _canvas(micro_batch: Sequence[int], sizes_N2: NDArray[np.int64]) -> tuple[int, int]:
    height, width = sizes_N2[list(micro_batch)].max(axis=0)
    return align(int(height)), align(int(width))


def _canvas_pixels(micro_batch: Sequence[int], sizes_N2: NDArray[np.int64]) -> int:
    height, width = _canvas(micro_batch, sizes_N2)
    return len(micro_batch) * height * width


def _run_block(
    step: OptimizerStep, batches: Iterator[Batch], planned: Sequence[PlannedStep], *, timer: StepTimer
) -> tuple[PhaseTimes, float, list[StepResult]]:
    timer.begin_block()
    results = [
        step.run(batches, num_examples=sum(len(micro_batch) for micro_batch in micro_batches), timer=timer)
        for micro_batches in planned
    ]
    times, wall_time_s = timer.end_block()
    return times, wall_time_s, results


def _shape_columns(steps: Sequence[PlannedStep], sizes_N2: NDArray[np.int64]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "num_examples",
            "num_micro_batches",
            "valid_pixels",
            "padded_pixels",
            "canvas_height",
            "canvas_width",
        )
    }
    for micro_batches in steps:
        examples = [index for micro_batch in micro_batches for index in micro_batch]
        canvases = [_canvas(micro_batch, sizes_N2) for micro_batch in micro_batches]
        columns["num_examples"].append(len(examples))
        columns["num_micro_batches"].append(len(micro_batches))
        columns["valid_pixels"].append(int(sizes_N2[examples].prod(axis=1).sum()))
        columns["padded_pixels"].append(sum(_canvas_pixels(micro_batch, sizes_N2) for micro_batch in micro_batches))
        columns["canvas_height"].append(max(height for height, _ in canvases))
        columns["canvas_width"].append(max(width for _, width in canvases))
    return columns


def _block(columns: dict[str, list[Any]], wall_time_s: float) -> Block:
    rows = [i for i, is_warm_up in enumerate(columns["is_warm_up"]) if not is_warm_up]

    def total(name: str) -> int:
        return sum(columns[name][i] for i in rows)

    return Block(
        wall_time_s=wall_time_s,
        num_steps=len(rows),
        num_examples=total("num_examples"),
        valid_pixels=total("valid_pixels"),
        padded_pixels=total("padded_pixels"),
    )


def _skipped_by_scaler(results: Sequence[StepResult]) -> list[bool]:
    counts = [0.0, *(float(result.num_updates) for result in results)]
    return [after == before for before, after in itertools.pairwise(counts)]


def _checked_loss(record: TrialRecord, losses: Sequence[float], *, is_skipped: Sequence[bool]) -> TrialRecord:
    """Return the record, marked ``wrong`` if a step that counted had a loss that is no number.

    A step that the gradient scaler left out may overflow; that is what the scaler is for.
    """
    bad = [i for i, loss in enumerate(losses) if not is_skipped[i] and not math.isfinite(loss)]
    if not bad:
        return record
    message = f"the loss was not finite in step {bad[0]} (warm-up included), {len(bad)} of {len(losses)} steps in all"
    return replace(record, status="wrong", cause=Cause(kind="non-finite-loss", message=message))


def _memory_warnings(memory: MemoryReading) -> Iterator[TrialWarning]:
    if memory.num_alloc_retries:
        message = (
            f"the allocator ran full {memory.num_alloc_retries} times and flushed its cache: times are not valid; "
            "try a smaller micro-batch or PYTORCH_ALLOC_CONF=expandable_segments:True"
        )
        yield TrialWarning(code="alloc-retries", message=message)


def _step_warnings(measured: Sequence[PlannedStep], is_skipped: Sequence[bool]) -> Iterator[TrialWarning]:
    if any(is_skipped):
        message = (
            f"the gradient scaler left out {sum(is_skipped)} of {len(measured)} measured steps; "
            "they are excluded from times: try more --warm-up-steps or bf16"
        )
        yield TrialWarning(code="scaler-skipped-steps", message=message)
    if len(measured) < MIN_MEASURED_STEPS:
        message = f"only {len(measured)} steps were measured: the interval is wide; try a larger --subset"
        yield TrialWarning(code="few-steps", message=message)
