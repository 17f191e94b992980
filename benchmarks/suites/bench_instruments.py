"""Time that a trial's instruments add to the steps that they measure.

Run with: python benchmarks/suites/bench_instruments.py [--device cuda]

Blocks of the same steps on resident batches alternate between two ways, in random order within each pair:

    measured   through a trial's block log, timed by phase and kept for the record, while another process watches the
               machine: everything that a trial does for each step
    bare       with a timer that does nothing, and nothing kept

Each block runs between two synchronisations, by the same clock. Read the ratio and its interval: other programs on the
machine widen the interval but do not change the ratio. The time of the timer's calls alone is printed below it, as a
check that does not need a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import Connection

import torch

from vnbench.analysis.statistics.means import mean
from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate, to_device
from vnbench.records.spec.trial_spec import ComputeSpec
from vnbench.records.spec.words import DeviceType
from vnbench.sweep.runner import probe_environment
from vnbench.sweep.telemetry import MachineWatch
from vnbench.trial.instruments.timing import PHASES, Phase, PhaseTimes, StepTimer, make_timer
from vnbench.trial.measuring.blocks import BlockLog, StepShape
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import set_switches

HEIGHT, WIDTH = 480, 3_200
TARGETS = {"cpu": 0.02, "cuda": 0.005}
"""Maximum share of a step that the instruments may take."""

STEPS_PER_BLOCK = {"cpu": 1, "cuda": 20}
"""Steps per block, as in compute trials: on the CPU each step is a block."""


class SilentTimer:
    """A timer that measures nothing."""

    def begin_block(self) -> None:
        pass

    def begin_step(self) -> None:
        pass

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        return nullcontext()

    def end_block(self) -> tuple[PhaseTimes, float]:
        return {}, 0.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of blocks, one of each kind")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error(f"--pairs {options.pairs}: an interval needs two")
    environment = probe_environment(options.device)
    device_type: DeviceType = environment["device_type"]
    torch.set_num_threads(environment["num_threads"])

    step, batches, shapes = prepare(device_type)
    with watcher(environment["device_uuid"]) as watch:
        ratios, measured_s, bare_s = run_pairs(step, batches, shapes, num_pairs=options.pairs, watch=watch)
    report(device_type, environment["device_name"], shapes, ratios, measured_s, bare_s)
    calls_s = timer_calls_s(step.device)
    bare_step_s = statistics.median(bare_s) / len(shapes)
    print(
        f"calls of the timer alone: {1e6 * calls_s:.0f} us per step, {100 * calls_s / bare_step_s:.4f} % of a bare one"
    )
    return 0


def prepare(device_type: DeviceType) -> tuple[OptimizerStep, Iterator[Batch], list[StepShape]]:
    """Return a warm step, an endless iterator of its batches, and the shapes of the steps in one block."""
    device = torch.device(device_type)
    spec = ComputeSpec(
        device=device_type,
        model="veernet" if device_type == "cuda" else "veernet-tiny",
        task="multiclass",
        batch_size=1,
        micro_batch_size=1,
        precision="fp32",
        norm_precision="fp32",
        checkpointing="none",
        seed=0,
        canvas_sizes=((HEIGHT, WIDTH),),
        num_warm_up_steps=1,
        noise_target=0.01,
        min_steps=1,
        max_steps=1,
        max_measuring_s=1.0,
    )
    example = draw_example(seed=0, index=0, height=HEIGHT, width=WIDTH, task="multiclass")
    batches = itertools.repeat(to_device(collate([example]), device, non_blocking=False))
    set_switches(spec)
    step = build_step(spec, device=device)
    shape = StepShape(
        num_examples=1,
        num_micro_batches=1,
        valid_pixels=HEIGHT * WIDTH,
        padded_pixels=HEIGHT * WIDTH,
        canvas_height=HEIGHT,
        canvas_width=WIDTH,
    )
    shapes = [shape] * STEPS_PER_BLOCK[device_type]
    BlockLog(step).run(batches, [shape] * 5, is_warm_up=True)
    return step, batches, shapes


def run_pairs(
    step: OptimizerStep,
    batches: Iterator[Batch],
    shapes: Sequence[StepShape],
    *,
    num_pairs: int,
    watch: Callable[[bool], None],
) -> tuple[list[float], list[float], list[float]]:
    """Return the logarithm of each pair's ratio, and the seconds of the measured and of the bare blocks."""
    log = BlockLog(step)
    silent: StepTimer = SilentTimer()

    def measured() -> None:
        log.run(batches, shapes, is_warm_up=False)

    def bare() -> None:
        for shape in shapes:
            step.run(batches, num_examples=shape.num_examples, timer=silent)

    def seconds(block: Callable[[], None]) -> float:
        synchronize(step.device)
        start = time.perf_counter()
        block()
        synchronize(step.device)
        return time.perf_counter() - start

    order = random.Random(0)
    times: dict[Callable[[], None], list[float]] = {measured: [], bare: []}
    for _ in range(num_pairs):
        for block in order.sample((measured, bare), 2):
            watch(block is measured)
            times[block].append(seconds(block))
    ratios = [math.log(a / b) for a, b in zip(times[measured], times[bare], strict=True)]
    return ratios, times[measured], times[bare]


def report(
    device_type: DeviceType,
    device_name: str,
    shapes: Sequence[StepShape],
    ratios: Sequence[float],
    measured_s: Sequence[float],
    bare_s: Sequence[float],
) -> None:
    target = TARGETS[device_type]
    estimate = mean(ratios)
    assert estimate.half_width is not None
    low, high = estimate.value - estimate.half_width, estimate.value + estimate.half_width
    verdict = "within" if math.expm1(high) < target else "above" if math.expm1(low) > target else "too noisy to tell"
    print(f"{device_name}; {len(ratios)} pairs of blocks of {len(shapes)} steps, 1 x {HEIGHT} x {WIDTH:,}")
    for name, values in (("measured", measured_s), ("bare", bare_s)):
        print(f"{name:>9}: median {1e3 * statistics.median(values) / len(shapes):.2f} ms per step")
    print(f"ratio of medians: {100 * (statistics.median(measured_s) / statistics.median(bare_s) - 1):+.2f} %")
    print(
        f"mean ratio: {100 * math.expm1(estimate.value):+.2f} %, 95 % interval "
        f"{100 * math.expm1(low):+.2f} to {100 * math.expm1(high):+.2f} %; target under {100 * target:g} %: {verdict}"
    )


def timer_calls_s(device: torch.device, *, num_steps: int = 1_000) -> float:
    """Return the host's seconds per step for the timer's calls, around empty phases."""
    timer = make_timer(device)
    timer.begin_block()
    start = time.perf_counter()
    for _ in range(num_steps):
        timer.begin_step()
        for phase in ("optimizer", *PHASES):  # the optimizer's phase is entered twice: to zero gradients, and to step
            with timer.phase(phase):
                pass
    calls_s = (time.perf_counter() - start) / num_steps
    timer.end_block()
    return calls_s


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def watcher(device_uuid: str | None) -> Iterator[Callable[[bool], None]]:
    """Yield a function that starts or stops another process's watch on the machine, and waits until that happened."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=watch_on_request, args=(theirs, device_uuid), daemon=True)
    process.start()

    def watch(is_on: bool) -> None:
        ours.send(is_on)
        ours.recv()

    try:
        yield watch
    finally:
        ours.close()
        process.join()


def watch_on_request(requests: Connection, device_uuid: str | None) -> None:
    watch: MachineWatch | None = None
    while True:
        try:
            is_on = requests.recv()
        except EOFError:
            return
        if watch is not None:
            watch.__exit__(None, None, None)
        watch = MachineWatch(device_uuid=device_uuid).__enter__() if is_on else None
        requests.send(is_on)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
