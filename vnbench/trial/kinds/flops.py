"""Floating-point operations of a training step, by torch's own counter."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.step.network import SMALLEST_SIDE, build_network


class FlopModel:
    """Operations of forward and backward passes of one example, for a canvas of any size.

    Convolutions and projections grow with the pixels, attention with their square, and nothing else is counted: two
    small canvases settle both coefficients exactly, and no large one has to be computed. The optimizer is not counted.
    Recomputation under checkpointing is left out, as is usual for the operations of a model (MLPerf Training rules).
    """

    def __init__(self, spec: TrialSpec) -> None:
        small, large = SMALLEST_SIDE * SMALLEST_SIDE, SMALLEST_SIDE * 2 * SMALLEST_SIDE
        at_small, at_large = _count(spec, width=SMALLEST_SIDE), _count(spec, width=2 * SMALLEST_SIDE)
        self.per_squared_pixel = (at_large / large - at_small / small) / (large - small)
        """Operations per squared pixel of the canvas."""
        self.per_pixel = at_small / small - self.per_squared_pixel * small
        """Operations per pixel of the canvas."""

    def per_example(self, *, height: int, width: int) -> int:
        """Return the operations on a canvas, its sides in pixels and multiples of ALIGNMENT."""
        pixels = height * width
        return round(self.per_pixel * pixels + self.per_squared_pixel * pixels**2)


def _count(spec: TrialSpec, *, width: int) -> int:
    """Return the operations of one example of SMALLEST_SIDE x ``width`` px, counted on the CPU in fp32."""
    with torch.random.fork_rng(devices=[]):
        plain = replace(spec, norm_precision="fp32", norm_kernel="native", checkpointing="none", padding="plain")
        model = build_network(plain)
    images_BCHW = torch.zeros(1, 1, SMALLEST_SIDE, width)
    # The counter does not know the CPU's fused attention; as matrix products the same operations are seen.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(images_BCHW).sum().backward()
    return int(counter.get_total_flops())
