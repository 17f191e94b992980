"""Cost on the CPU of a new canvas at every step, with oneDNN's limit on prepared kernels and with ours.

Run with: python benchmarks/suites/bench_canvases.py

Each process trains twice on the same canvases: canvas by canvas, as compute trials do, and in turn, as training does.
All canvases have been seen before. Read the ratios.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import torch

from vnbench.loading.collate import Batch, blank_batch
from vnbench.records.spec.trial_spec import ComputeSpec
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import PRIMITIVE_CACHE, PRIMITIVE_CACHE_CAPACITY, set_switches

ONEDNN_DEFAULT = "1024"
NUM_CANVASES, NUM_ROUNDS, BATCH_SIZE = 16, 4, 2


def main() -> int:
    if len(sys.argv) > 1:
        measure()
        return 0
    print("| prepared kernels kept | in turn over canvas by canvas |\n|---:|---:|")
    for capacity in (ONEDNN_DEFAULT, PRIMITIVE_CACHE_CAPACITY):
        environment = os.environ | {PRIMITIVE_CACHE: capacity}
        done = subprocess.run(
            [sys.executable, __file__, "child"], env=environment, check=True, capture_output=True, encoding="utf-8"
        )
        print(f"| {int(capacity):,} | {done.stdout.strip()} |")
    return 0


def measure() -> None:
    """Print the ratio of one process."""
    spec = ComputeSpec(
        device="cpu",
        model="veernet-tiny",
        task="multiclass",
        batch_size=BATCH_SIZE,
        micro_batch_size=BATCH_SIZE,
        precision="bf16",
        norm_precision="input",
        checkpointing="none",
        seed=0,
        canvas_sizes=((96, 640),),
        num_warm_up_steps=1,
        noise_target=0.01,
        min_steps=1,
        max_steps=1,
        max_measuring_s=1.0,
    )
    set_switches(spec)
    step = build_step(spec, device=torch.device("cpu"))
    generator = random.Random(0)
    canvases = [(generator.choice((96, 128)), 32 * width) for width in generator.sample(range(20, 81), NUM_CANVASES)]
    batches = [blank_batch(BATCH_SIZE, height=height, width=width) for height, width in sorted(canvases, reverse=True)]
    for batch in batches:
        seconds(step, batch)
    apart_s = in_turn_s = 0.0
    for _ in range(NUM_ROUNDS):
        for batch in batches:
            seconds(step, batch)
            apart_s += seconds(step, batch)
        for batch in generator.sample(batches, len(batches)):
            in_turn_s += seconds(step, batch)
    print(f"{in_turn_s / apart_s:.2f}")


def seconds(step: OptimizerStep, batch: Batch) -> float:
    """Return the seconds of one step."""
    timer = make_timer(step.device)
    timer.begin_block()
    step.run(iter([batch]), num_examples=BATCH_SIZE, timer=timer)
    times, _ = timer.end_block()
    return times["step_time_s"][0]


if __name__ == "__main__":
    sys.exit(main())
