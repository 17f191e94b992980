"""Cost and savings of checkpointing and of the norm's kernel: the time of a step, and its peak at the worst case.

Run with: python benchmarks/suites/bench_recomputation.py    (some ten minutes on two cores)

All configurations of one network on one canvas are timed in turn in random order, so that disturbances affect all
alike;
ratios are those of the medians. On the CPU, times are CPU seconds. Peaks and operators are traced, which needs no
memory. ``--device cuda`` times on a GPU; peaks still come from the CPU's operators.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import dataclass, replace
from statistics import median

import torch

from vnbench.loading.collate import Batch, blank_batch
from vnbench.records.spec.trial_spec import ComputeSpec, MemorySpec, TrialSpec
from vnbench.records.spec.words import (
    CHECKPOINTINGS,
    NORM_KERNELS,
    Checkpointing,
    DeviceType,
    NormKernel,
    NormPrecision,
    Precision,
)
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.kinds.traced_memory import traced_memory
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import set_switches
from vnbench.units import format_bytes

WORST_CASE = (640, 12_800)
"""Height and width in pixels of the traced canvas."""

CANVAS: dict[DeviceType, tuple[int, int]] = {"cpu": (640, 4800), "cuda": (640, 6400)}
"""Height and width in pixels of the timed canvas: on smaller ones, Python's time to recompute operators matters."""


PRECISIONS: list[tuple[Precision, NormPrecision]] = [("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "input")]
"""Precisions of the arithmetic and of the norms."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to compute the same step."""

    norm_kernel: NormKernel
    checkpointing: Checkpointing


WAYS = [Way(norm_kernel=kernel, checkpointing=one) for kernel in NORM_KERNELS for one in CHECKPOINTINGS]
"""Ways to compute the step. The first is plain; the others are compared with it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps per configuration")
    options = parser.parse_args()

    print("| precision | norm in | kernel | checkpointing | peak | of plain | operators | step, ms | of plain |")
    print("|---|---|---|---|---:|---:|---:|---:|---:|")
    for precision, norm in PRECISIONS:
        plain = replace(base(options.device), precision=precision, norm_precision=norm)
        specs = [replace(plain, norm_kernel=way.norm_kernel, checkpointing=way.checkpointing) for way in WAYS]
        times = times_s(specs, repeats=options.repeats)
        readings = [traced_memory(worst_case(spec)) for spec in specs]
        peaks = [reading.peak_allocated_bytes or 0 for reading in readings]
        for way, reading, peak, seconds in zip(WAYS, readings, peaks, times, strict=True):
            cells = (
                f"{precision} | {norm} | {way.norm_kernel} | {way.checkpointing} | {format_bytes(peak)} "
                f"| {peak / peaks[0]:.3f} | {reading.num_operators:,} | {1000 * median(seconds):,.0f} "
                f"| {median(seconds) / median(times[0]):.2f}"
            )
            print(f"| {cells} |", flush=True)
    return 0


def base(device: DeviceType) -> TrialSpec:
    return ComputeSpec(
        device=device,
        model="veernet",
        task="multiclass",
        batch_size=1,
        micro_batch_size=1,
        precision="fp32",
        norm_precision="fp32",
        checkpointing="none",
        seed=0,
        canvas_sizes=(CANVAS[device],),
        num_warm_up_steps=1,
        noise_target=0.01,
        min_steps=1,
        max_steps=1,
        max_measuring_s=1.0,
    )


def worst_case(spec: TrialSpec) -> MemorySpec:
    """Return the traced memory trial for a spec's levers."""
    return MemorySpec(
        device="cpu",
        model=spec.model,
        task=spec.task,
        batch_size=1,
        micro_batch_size=1,
        precision=spec.precision,
        norm_precision=spec.norm_precision,
        checkpointing=spec.checkpointing,
        norm_kernel=spec.norm_kernel,
        seed=spec.seed,
        worst_case_height=WORST_CASE[0],
        worst_case_width=WORST_CASE[1],
        memory_by="trace",
    )


def times_s(specs: list[TrialSpec], *, repeats: int) -> list[list[float]]:
    """Return the step times of each spec after an untimed step, measured in random order."""
    set_switches(specs[0])
    device = torch.device(specs[0].device)
    height, width = CANVAS[specs[0].device]
    batch = blank_batch(1, height=height, width=width)
    steps = [build_step(spec, device=device) for spec in specs]
    for step in steps:
        seconds_of(step, batch)
    times: list[list[float]] = [[] for _ in specs]
    generator = random.Random(0)
    for _ in range(repeats):
        for index in generator.sample(range(len(specs)), len(specs)):
            times[index].append(seconds_of(steps[index], batch))
    return times


def seconds_of(step: OptimizerStep, batch: Batch) -> float:
    """Return the seconds of one step; on the CPU its CPU time, which other load hardly changes."""
    timer = make_timer(step.device)
    start_s = time.process_time()
    timer.begin_block()
    step.run(iter([batch]), num_examples=1, timer=timer)
    times, _ = timer.end_block()
    return time.process_time() - start_s if step.device.type == "cpu" else times["step_time_s"][0]


if __name__ == "__main__":
    sys.exit(main())
