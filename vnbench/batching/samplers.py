"""Define the samplers, which choose the examples that share an optimizer step and a pass, from sizes alone.

Shape suffixes: N examples, S full optimizer steps, B examples of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from vnbench.batching.alignment import IntArray
from vnbench.batching.bucketing import bucketed_order
from vnbench.batching.passes import Grouping, close_at_budget, cut_consecutively, group_alike, joined
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.records.spec.words import SamplerName

Sampler: TypeAlias = Callable[[SizeArray, PlanConfig, np.random.Generator], Grouping]
"""``(canvases_N2, config, rng) -> Grouping`` of every example once. ``canvases_N2`` are the canvases that the examples
would have alone. Each step has exactly batch_size examples; only the last may have fewer. Otherwise the number of steps
would depend on the sampler, and samplers could not be compared."""


def sample_random(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return steps in a random order that ignores the sizes."""
    order_N = rng.permutation(len(canvases_N2))
    return _in_steps(
        order_N, config.batch_size, lambda order_SB: cut_consecutively(order_SB, length=config.micro_batch_size)
    )


def sample_step_sorted(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the steps of ``random``, with the examples of each step grouped into micro-batches of similar sizes.

    Each optimizer step has the same examples as in ``random``, so training is the same.
    """
    return _alike_in_steps(rng.permutation(len(canvases_N2)), canvases_N2, config)


def sample_bucketed(
    canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator, *, jitter_batches: float | None = None
) -> Grouping:
    """Return steps of similar sizes, in random order; ``jitter_batches`` as for ``bucketed_order``."""
    order_N = bucketed_order(canvases_N2, batch_size=config.batch_size, rng=rng, jitter_batches=jitter_batches)
    return _alike_in_steps(order_N, canvases_N2, config)


def sample_pixel_budget(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the steps of ``bucketed``, cut into passes within the pixel budget, with as few passes as it allows."""
    assert config.pixel_budget is not None
    budget = config.pixel_budget
    order_N = bucketed_order(canvases_N2, batch_size=config.batch_size, rng=rng)
    return _in_steps(order_N, config.batch_size, lambda order_SB: close_at_budget(order_SB, canvases_N2, budget=budget))


def sample_sorted(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return examples by descending height, then width; equal in every epoch, so for comparison, not for training."""
    heights_N, widths_N = canvases_N2.T
    return _in_steps(
        np.lexsort((-widths_N, -heights_N)),
        config.batch_size,
        lambda order_SB: cut_consecutively(order_SB, length=config.micro_batch_size),
    )


SAMPLERS: Mapping[SamplerName, Sampler] = {
    "random": sample_random,
    "step-sorted": sample_step_sorted,
    "bucketed": sample_bucketed,
    "pixel-budget": sample_pixel_budget,
    "sorted": sample_sorted,
}
"""Every sampler by name. A new sampler needs a function here and its name in ``records.spec.words.SamplerName``."""


def _alike_in_steps(order_N: IntArray, canvases_N2: SizeArray, config: PlanConfig) -> Grouping:
    return _in_steps(
        order_N,
        config.batch_size,
        lambda order_SB: group_alike(order_SB, canvases_N2, length=config.micro_batch_size),
    )


def _in_steps(order_N: IntArray, batch_size: int, divide: Callable[[IntArray], Grouping]) -> Grouping:
    """Return consecutive steps of batch_size examples, each divided into passes; the last step may be shorter."""
    full_N, rest_N = np.split(order_N, [len(order_N) // batch_size * batch_size])
    parts = [full_N.reshape(-1, batch_size), rest_N.reshape(1, -1)]
    return joined([divide(part) for part in parts if part.size])
