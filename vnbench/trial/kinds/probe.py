"""The probe of a machine's speed: a convolution in each precision, then a few small training steps.

CPU flags do not reveal the speed. oneDNN reports bf16 as supported on processors that compute it three times slower
than fp32, and elsewhere emulates it thirty times slower under the same name. So each precision is timed on a small
input before hours are planned with it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from vnbench.records.probe_reading import ProbeReading, ProbeStep
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ProbeSpec
from vnbench.records.spec.words import DeviceType, Precision
from vnbench.records.task import TrialTask
from vnbench.trial.instruments.environment import check_fork
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.measuring.drawn_batch import drawn_batch
from vnbench.trial.step.optimizer_step import autocast_dtype, build_step
from vnbench.trial.step.switches import set_arithmetic

CHANNELS = 16
"""Channels of the convolution, as in the full network's first stage."""

CONVOLUTION_CANVAS: dict[DeviceType, tuple[int, int]] = {"cpu": (64, 160), "cuda": (640, 3200)}
"""Height and width in pixels: on a CPU small enough for emulated bf16 (0.1 s where fp32 takes 4 ms), on a GPU large
enough to fill it."""

NUM_ROUNDS = 25
"""Number of rounds over all precisions after an uncounted first one. The fastest convolution counts, since it is
disturbed the least, and in rounds any disturbance affects all precisions alike."""

LONG_CONVOLUTION_S = 0.05
"""A precision gets no rounds if each of its NUM_FIRST convolutions takes longer than this: it is slow in any case."""

NUM_FIRST = 3
"""Number of first convolutions that may be slow. The very first also creates kernels, and on a busy machine it waits:
0.10 s were seen in bf16 where one convolution takes 0.001 s."""

MIN_CANVASES = 2
"""Number of canvases that always get a step: two separate the cost of a step from that of its pixels."""

LONGEST_STEP_S = 3.0
"""A precision whose step would take longer gets no step: its convolution shows its cost."""

LONG_STEP_S = 1.0
"""A first step slower than this is not repeated: with a busy core it would cost more than it tells."""


def measure_probe(task: TrialTask[ProbeSpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record once, with the complete reading of the probe.

    The centre of a sweep will use the fastest precision, so its steps cover MIN_CANVASES canvases and as many more as
    fit into ``max_measuring_s``. Other precisions get steps on the smallest canvas only, and none if their convolution
    predicts a step longer than LONGEST_STEP_S.
    """
    spec = task.spec
    device = torch.device(spec.device)
    convolution_s = _convolutions_s(spec.precisions, device=device)
    fastest = min(convolution_s, key=lambda precision: convolution_s[precision])
    start = time.monotonic()
    steps: list[ProbeStep] = []
    for precision in sorted(spec.precisions, key=lambda one: one != fastest):
        canvases = spec.canvas_sizes
        if precision != fastest:
            expected_s = steps[0].seconds * convolution_s[precision] / convolution_s[fastest]
            canvases = spec.canvas_sizes[:1] if expected_s <= LONGEST_STEP_S else ()
        steps += _steps(_in_precision(spec, precision), canvases, device=device, start=start)
    yield replace(record, probe=ProbeReading(convolution_s=convolution_s, steps=tuple(steps)))


def convolution_times(payload: str) -> str:
    """Return the seconds of one convolution by precision (JSON).

    The payload (JSON) names device and precisions: ``{"device": "cpu", "precisions": ["fp32", "bf16"]}``.
    """
    asked = json.loads(payload)
    if asked["device"] == "cuda":
        check_fork()
    return json.dumps(_convolutions_s(asked["precisions"], device=torch.device(asked["device"])))


def _in_precision(spec: ProbeSpec, precision: Precision) -> ProbeSpec:
    return replace(spec, precision=precision)


def _convolutions_s(precisions: Sequence[Precision], *, device: torch.device) -> dict[Precision, float]:
    """Return the seconds of one convolution by precision, forward and backward, on one CPU thread.

    Several threads wait for each other. With a busy core they wait longer than they compute, and all precisions look
    alike.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fastest_s(precisions, device=device)
    finally:
        torch.set_num_threads(num_threads)


def _fastest_s(precisions: Sequence[Precision], *, device: torch.device) -> dict[Precision, float]:
    height, width = CONVOLUTION_CANVAS["cuda" if device.type == "cuda" else "cpu"]
    tries = {}
    found: dict[Precision, float] = {}
    for precision in precisions:
        dtype = autocast_dtype(precision) or torch.float32
        convolution = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).to(device, dtype)
        images_BCHW = torch.zeros((1, CHANNELS, height, width), device=device, dtype=dtype, requires_grad=True)
        set_arithmetic(precision)
        found[precision] = math.inf
        for _ in range(NUM_FIRST):
            found[precision] = min(found[precision], _timed(convolution, images_BCHW))
            if found[precision] <= LONG_CONVOLUTION_S:
                break
        if device.type == "cuda" or found[precision] <= LONG_CONVOLUTION_S:
            tries[precision] = (convolution, images_BCHW)
            found[precision] = math.inf
    for _ in range(NUM_ROUNDS):
        for precision, (convolution, images_BCHW) in tries.items():
            set_arithmetic(precision)
            found[precision] = min(found[precision], _timed(convolution, images_BCHW))
    return found


def _timed(convolution: torch.nn.Module, images_BCHW: torch.Tensor) -> float:
    start = time.perf_counter()
    output_BCHW = convolution(images_BCHW)
    output_BCHW.backward(output_BCHW.detach())
    if images_BCHW.is_cuda:
        torch.cuda.synchronize(images_BCHW.device)
    return time.perf_counter() - start


def _steps(
    spec: ProbeSpec, canvases: tuple[tuple[int, int], ...], *, device: torch.device, start: float
) -> Iterator[ProbeStep]:
    """Yield two steps per canvas, or one if it is long, while two more fit into the probe's time."""
    set_arithmetic(spec.precision)
    step = build_step(spec, device=device)
    rate_s_per_pixel = 0.0
    for number, (height, width) in enumerate(canvases, start=1):
        batch = drawn_batch(spec, height=height, width=width, num_examples=1)
        pixels = int(batch.images_BHW.numel())
        left_s = spec.max_measuring_s - (time.monotonic() - start)
        if number > MIN_CANVASES and 2 * pixels * rate_s_per_pixel > left_s:
            return
        for is_first in (True, False):
            before = time.perf_counter()
            step.run(iter([batch]), num_examples=1, timer=make_timer(device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - before
            yield ProbeStep(precision=spec.precision, padded_pixels=pixels, seconds=seconds, is_first=is_first)
            rate_s_per_pixel = seconds / pixels
            if seconds > LONG_STEP_S:
                break
