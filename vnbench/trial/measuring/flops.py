"""Floating-point operations of a training step, counted by torch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.step.network import SMALLEST_SIDE, build_network


class FlopModel:
    """Operations of forward and backward passes of one example, for a canvas of any size.

    Convolutions and projections grow linearly with the pixels, attention with their square, and nothing else is
    counted, so two small canvases give both coefficients exactly. The optimizer is not counted, nor is recomputation
    under checkpointing, as is usual for a model's operations (MLPerf Training rules).
    """

    def __init__(self, spec: TrialSpec) -> None:
        small, large = SMALLEST_SIDE * SMALLEST_SIDE, SMALLEST_SIDE * 2 * SMALLEST_SIDE
        at_small, at_large = _count(spec, width=SMALLEST_SIDE), _count(spec, width=2 * SMALLEST_SIDE)
        self.per_squared_pixel = (at_large / large - at_small / small) / (large - small)
        """Operations per squared pixel of the canvas."""
        self.per_pixel = at_small / small - self.per_squared_pixel * small
        """Operations per pixel of the canvas."""

    def per_example(self, *, height: int, width: int) -> int:
        """Return the operations on a canvas with sides in pixels that are multiples of ALIGNMENT."""
        pixels = height * width
        return round(self.per_pixel * pixels + self.per_squared_pixel * pixels**2)


def _count(spec: TrialSpec, *, width: int) -> int:
    """Return the operations of one example of SMALLEST_SIDE x ``width`` px, counted on the CPU in fp32."""
    with torch.random.fork_rng(devices=[]):
        plain = replace(spec, norm_precision="fp32", norm_kernel="native", checkpointing="none", padding="plain")
        model = build_network(plain)
    images_BCHW = torch.zeros(1, 1, SMALLEST_SIDE, width)
    # The counter does not know the CPU's fused attention, but counts the same operations as matrix products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(images_BCHW).sum().backward()
    return int(counter.get_total_flops())
