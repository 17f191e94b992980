"""Difference between the gradient of an accumulated step and that of a single pass over the same examples.

A random step of 16 examples is divided into micro-batches of similar sizes, as the sampler step-sorted does. With plain
padding each micro-batch has its own canvas, so norms and attention see different padding. With exact padding only
rounding should remain; a run in float64 shows whether anything else does. Weights are random, not trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import MicroBatch, PlanConfig
from vnbench.batching.sizes import SizeArray, SizeDistribution, draw_sizes
from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import PADDINGS, Padding
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import set_arithmetic
from vnbench.units import PixelRange

Arithmetic = Literal["fp32", "float64"]

MICRO_BATCH_SIZES = (16, 8, 4, 2, 1)
"""The first is the whole batch, with which the others are compared."""

SIZES = SizeDistribution(widths=PixelRange(start=200, stop=800), heights=PixelRange(start=120, stop=160))
"""A sixteenth of the logs' widths, which takes a minute on two cores, and a quarter of their heights: for smaller ones,
rounding up to whole canvases would pad more. Equal on every device."""

SEEDS = (0, 1, 2)
"""Seeds of weights and examples."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference between the gradient of one accumulated step and that of a single pass over its examples."""

    padding: Padding
    arithmetic: Arithmetic
    seed: int
    """Of weights and examples."""
    micro_batch_size: int
    gradient: float
    """Norm of the difference over the norm of the single pass's gradient; 0 for the single pass itself."""
    padding_ratio: float
    """Padding ratio of the divided step."""


def measure_differences(spec: TrialSpec, *, sizes: SizeDistribution = SIZES) -> list[Difference]:
    """Return the differences for the network of a training spec, in fp32 and with no lever except padding.

    float64 takes twice the time, and rounding differs little between seeds, so it runs with the first seed only.
    """
    set_arithmetic("fp32")
    bare = replace(spec, precision="fp32", norm_precision="fp32", checkpointing="none", compile="none")
    cases: list[tuple[Padding, Arithmetic, int]] = [(padding, "fp32", seed) for seed in SEEDS for padding in PADDINGS]
    cases.append(("exact", "float64", SEEDS[0]))
    return [
        one
        for padding, arithmetic, seed in cases
        for one in _differences(replace(bare, padding=padding, seed=seed), sizes, arithmetic)
    ]


def _differences(spec: TrialSpec, sizes: SizeDistribution, arithmetic: Arithmetic) -> Iterator[Difference]:
    step = build_step(spec, device=torch.device(spec.device))
    if arithmetic == "float64":
        _widen(step)
    sizes_N2 = draw_sizes(sizes, spec.batch_size, seed=spec.seed)
    whole: Tensor | None = None
    for micro_batch_size in MICRO_BATCH_SIZES:
        passes = divided(sizes_N2, micro_batch_size=micro_batch_size, seed=spec.seed)
        gradient_P = _gradient(step, [_drawn(one, sizes_N2, spec) for one in passes])
        whole = gradient_P if whole is None else whole
        yield Difference(
            padding=spec.padding,
            arithmetic=arithmetic,
            seed=spec.seed,
            micro_batch_size=micro_batch_size,
            gradient=float((gradient_P - whole).norm() / whole.norm()),
            padding_ratio=1 - int(sizes_N2.prod(axis=1).sum()) / sum(one.padded_pixels for one in passes),
        )


def divided(sizes_N2: SizeArray, *, micro_batch_size: int, seed: int) -> tuple[MicroBatch, ...]:
    """Return the passes of a single step with all examples."""
    config = PlanConfig(sampler="step-sorted", batch_size=len(sizes_N2), micro_batch_size=micro_batch_size, seed=seed)
    (passes,) = plan_epoch(sizes_N2, config, epoch=0).steps
    return passes


def _drawn(one: MicroBatch, sizes_N2: SizeArray, spec: TrialSpec) -> Batch:
    """Return a micro-batch with random pixels."""
    examples = [
        draw_example(seed=spec.seed, index=index, height=int(height), width=int(width), task=spec.task)
        for index, (height, width) in ((index, sizes_N2[index]) for index in one.examples)
    ]
    return collate(examples, canvas=one.canvas)


def _widen(step: OptimizerStep) -> None:
    """Make a step compute in float64, with the same weights and pixels."""
    step.model.double()
    step.model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))


def _gradient(step: OptimizerStep, passes: list[Batch]) -> Tensor:
    _, gradients = step.gradient(passes)
    return torch.cat([gradient.double().flatten() for gradient in gradients])
