"""The compute trial: steps on batches that are already on the device, canvas by canvas, the largest first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from vnbench.batching.alignment import align
from vnbench.loading.collate import Batch, to_device
from vnbench.records.readings import CanvasReading, MemoryReading, Stop
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ComputeSpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks.references import checked_against_references, expected_large_tensors
from vnbench.trial.frameworks.looped import TimedStep, looped
from vnbench.trial.instruments.memory import cuda_memory, process_memory, process_rss_bytes, reset_cuda_peaks
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.measuring.blocks import BlockLog, StepShape
from vnbench.trial.measuring.drawn_batch import drawn_batch
from vnbench.trial.measuring.flops import FlopModel
from vnbench.trial.measuring.paired_loops import measure_pairs
from vnbench.trial.measuring.stopping import Stopping
from vnbench.trial.step.network import SMALLEST_SIDE
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.tracked_step import run_tracked

CPU_BLOCK_STEPS = 1
"""Steps per block on the CPU, where a synchronisation costs nothing and a step may take seconds."""


def measure_compute(task: TrialTask[ComputeSpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record after each canvas, with all canvases so far."""
    spec = task.spec
    device = torch.device(spec.device)
    height, width = max(spec.canvas_sizes, key=math.prod)
    record = expected_large_tensors(record, num_examples=spec.batch_size, height=height, width=width)
    yield record
    record = checked_against_references(record)
    flops = FlopModel(spec)
    step = build_step(spec, device=device)
    # Pay the process's one-time costs (libraries, optimizer state) before the first canvas.
    smallest = _resident_batch(spec, (SMALLEST_SIDE, SMALLEST_SIDE), device)
    canvases: list[CanvasReading] = []
    peaks: list[MemoryReading] = []
    with looped(step, spec) as timed:
        (first,), *_ = timed.run_block(iter([smallest]), num_examples=[spec.batch_size], timer=make_timer(device))
        log = BlockLog(timed, num_updates=float(first.num_updates))
        for size in spec.canvas_sizes:
            canvas, memory = _measure_canvas(log, timed, spec, size, flops, own=step)
            canvases.append(canvas)
            peaks.append(memory)
            record = replace(record, canvases=tuple(canvases))
            yield log.observed(record, memory=_whole(peaks), is_per_canvas=True)


def _measure_canvas(
    log: BlockLog, step: TimedStep, spec: ComputeSpec, size: tuple[int, int], flops: FlopModel, *, own: OptimizerStep
) -> tuple[CanvasReading, MemoryReading]:
    is_cuda = step.device.type == "cuda"
    rss_before = process_rss_bytes()
    num_retries_before = reset_cuda_peaks(step.device) if is_cuda else 0
    batch = _resident_batch(spec, size, step.device)
    shape = _shape(spec, size)
    batches = itertools.repeat(batch)
    first_seen = log.run(batches, [shape], is_warm_up=True)
    if spec.num_warm_up_steps > 1:
        log.run(batches, [shape] * (spec.num_warm_up_steps - 1), is_warm_up=True)
    if is_cuda and not step.is_replayed:
        num_retries_before = reset_cuda_peaks(step.device)
    stop = _measure_until_known(log, batches, shape, spec, is_cuda=is_cuda)
    pairs: tuple[tuple[float, float], ...] = ()
    if spec.loop != "own":
        pairs = measure_pairs(
            own,
            step,
            batches,
            num_examples=spec.batch_size,
            num_steps=spec.min_steps if is_cuda else CPU_BLOCK_STEPS,
            num_pairs=spec.max_steps,
            max_s=spec.max_measuring_s,
        )
    rss_after = process_rss_bytes()
    if is_cuda:
        memory = cuda_memory(step.device, num_retries_before=num_retries_before)
    else:
        memory = _cpu_memory(own, batch, spec)
    reading = CanvasReading(
        height=shape.canvas_height,
        width=shape.canvas_width,
        first_seen_s=first_seen.wall_time_s,
        peak_allocated_bytes=memory.peak_allocated_bytes,
        peak_reserved_bytes=memory.peak_reserved_bytes,
        host_growth_bytes=None if rss_before is None or rss_after is None else rss_after - rss_before,
        flop_per_step=spec.batch_size * flops.per_example(height=shape.canvas_height, width=shape.canvas_width),
        stop=stop,
        loop_pairs_s=pairs,
    )
    return reading, memory


def _cpu_memory(step: OptimizerStep, batch: Batch, spec: ComputeSpec) -> MemoryReading:
    """Return the peak memory of a separate step after the timed ones, because the tracker slows the step."""
    if spec.compile != "none" or spec.loop != "own":
        # The tracker sees no allocations of compiled code or of another thread.
        return process_memory()
    timer = make_timer(step.device)
    _, memory = run_tracked(step, [batch], lambda: step.run(iter([batch]), num_examples=spec.batch_size, timer=timer))
    return memory


def _measure_until_known(
    log: BlockLog, batches: Iterator[Batch], shape: StepShape, spec: ComputeSpec, *, is_cuda: bool
) -> Stop:
    stopping = Stopping(noise_target=spec.noise_target, max_measuring_s=spec.max_measuring_s, max_steps=spec.max_steps)
    num_steps = spec.min_steps
    num_measured = 0
    while True:
        block = log.run(batches, [shape] * num_steps, is_warm_up=False)
        num_measured += num_steps
        stopping.add_block(block.step_times_s, [shape.padded_pixels] * num_steps, wall_time_s=block.wall_time_s)
        stop = stopping.decide()
        if stop is not None:
            return stop
        # A synchronisation empties the device's queue, so on CUDA later blocks are as long as the first.
        num_steps = min(spec.min_steps if is_cuda else CPU_BLOCK_STEPS, spec.max_steps - num_measured)


def _resident_batch(spec: ComputeSpec, size: tuple[int, int], device: torch.device) -> Batch:
    height, width = size
    batch = drawn_batch(spec, height=height, width=width, num_examples=spec.batch_size)
    return to_device(batch, device, non_blocking=False)


def _shape(spec: ComputeSpec, size: tuple[int, int]) -> StepShape:
    height, width = size
    return StepShape(
        num_examples=spec.batch_size,
        num_micro_batches=1,
        valid_pixels=spec.batch_size * height * width,
        padded_pixels=spec.batch_size * align(height) * align(width),
        canvas_height=align(height),
        canvas_width=align(width),
    )


def _whole(readings: list[MemoryReading]) -> MemoryReading:
    """Return one reading with the largest peaks and the sum of retries of several readings in one process."""
    last = readings[-1]

    def largest(name: str) -> int | None:
        return max((value for reading in readings if (value := getattr(reading, name)) is not None), default=None)

    retries = [reading.num_alloc_retries for reading in readings if reading.num_alloc_retries is not None]
    return replace(
        last,
        peak_allocated_bytes=largest("peak_allocated_bytes"),
        peak_reserved_bytes=largest("peak_reserved_bytes"),
        peak_requested_bytes=largest("peak_requested_bytes"),
        num_alloc_retries=sum(retries) if retries else None,
    )
