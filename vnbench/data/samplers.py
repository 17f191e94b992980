"""Samplers: which examples share an optimizer step and a pass, from their sizes alone.

Shape suffixes: N examples, S full optimizer steps, B examples of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vnbench.data.alignment import IntArray
from vnbench.data.passes import Grouping, close_at_budget, cut_consecutively, group_alike, joined
from vnbench.data.plan import PlanConfig
from vnbench.data.sizes import SizeArray
from vnbench.spec import SamplerName

Sampler: TypeAlias = Callable[[SizeArray, PlanConfig, np.random.Generator], Grouping]
"""(canvases_N2, config, rng) -> every example once, in steps of exactly batch_size but for the last, which holds the
rest. ``canvases_N2`` are the canvases that the examples would have alone. Only the last step may be short, or the
number of steps, and with it the comparison between samplers, would depend on the sampler."""

JITTER_BATCHES = 2.5
"""Mean of the bucketed sampler's jitter, in batches.

A pair of examples meets again in the next epoch with about 1 / (4 JITTER_BATCHES), whatever the number of examples. The
waste grows with the share of a class that the jitter spans: on 12,000 images of 3,200 to 12,800 x 480 to 640 px, in
batches of 16, it is 4.8 %, of which 2.9 % are alignment.
"""

MAX_JITTER_SHARE = 1 / 60
"""Mean of the jitter, at most, as a share of the batches of a height class: it costs 2 % of padding where widths are
uniform from 3,200 to 12,800 px. Classes of under 150 batches have less jitter for it, and repeat more pairs."""


def sample_random(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the steps of a random order, whatever the sizes."""
    order_N = rng.permutation(len(canvases_N2))
    return _in_steps(
        order_N, config.batch_size, lambda order_SB: cut_consecutively(order_SB, length=config.micro_batch_size)
    )


def sample_step_sorted(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the steps of ``random``, each with its examples grouped into micro-batches of like sizes.

    Each optimizer step sees the examples that it would see in random order, so training is the same.
    """
    return _alike_in_steps(rng.permutation(len(canvases_N2)), canvases_N2, config)


def sample_bucketed(
    canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator, *, jitter_batches: float | None = None
) -> Grouping:
    """Return steps of examples of like sizes in a random order.

    The examples are grouped into classes of one height. Each class is sorted by width, jittered, and cut into batches:
    an example's place moves up by an exponential number of batches, so that its neighbours differ from epoch to epoch.
    Of the laws tried (uniform, triangular, gamma), at equal padding none repeats notably fewer pairs than this one.
    Examples that do not fill the last batch of a class, a random choice of them, go to the next taller class, where
    they raise no canvas's height. What is left after the tallest class is the short step, the last one; the order of
    the others is shuffled over the whole epoch. ``jitter_batches`` sets the mean jitter, whatever the class's size.
    """
    return _alike_in_steps(_bucketed_order(canvases_N2, config, rng, jitter_batches), canvases_N2, config)


def sample_pixel_budget(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the steps of ``bucketed`` in as few passes as a bound on the padded pixels of each allows."""
    assert config.pixel_budget is not None
    budget = config.pixel_budget
    order_N = _bucketed_order(canvases_N2, config, rng, None)
    return _in_steps(order_N, config.batch_size, lambda order_SB: close_at_budget(order_SB, canvases_N2, budget=budget))


def sample_sorted(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the examples by descending height, then width, in each epoch the same: for comparison, not to train."""
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
"""Every sampler under its name. A new one is a function here and its name in ``spec.SamplerName``."""


def _bucketed_order(
    canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator, jitter_batches: float | None
) -> IntArray:
    batch_size = config.batch_size
    num_full = len(canvases_N2) // batch_size
    shuffled_N = rng.permutation(len(canvases_N2))
    # Cutting the class-sorted order straight through carries each class's rest to the front of the next class.
    order_N = shuffled_N[np.argsort(canvases_N2[shuffled_N, 0], kind="stable")]
    full_N, rest_N = np.split(order_N, [num_full * batch_size])
    # The last example of a batch is its tallest, so it names the batch's class.
    classes_S = canvases_N2[full_N.reshape(num_full, batch_size)[:, -1], 0]
    classes_N = np.repeat(classes_S, batch_size)
    # lexsort is stable: equal widths keep the order of the shuffle.
    full_N = full_N[np.lexsort((canvases_N2[full_N, 1], classes_N))]
    jitter_N = np.repeat(_mean_jitters(classes_S, jitter_batches), batch_size) * batch_size
    places_N = np.arange(len(full_N)) + jitter_N * rng.exponential(size=len(full_N))
    full_N = full_N[np.lexsort((places_N, classes_N))]
    full_SB = full_N.reshape(num_full, batch_size)[rng.permutation(num_full)]
    return np.append(full_SB.ravel(), rest_N)


def _mean_jitters(classes_S: IntArray, jitter_batches: float | None) -> npt.NDArray[np.float64]:
    """Return the mean jitter of each batch's class, in batches."""
    if jitter_batches is not None:
        return np.full(len(classes_S), jitter_batches)
    _, inverse_S, counts = np.unique(classes_S, return_inverse=True, return_counts=True)
    jitters_S: npt.NDArray[np.float64] = np.minimum(JITTER_BATCHES, MAX_JITTER_SHARE * counts)[inverse_S]
    return jitters_S


def _alike_in_steps(order_N: IntArray, canvases_N2: SizeArray, config: PlanConfig) -> Grouping:
    return _in_steps(
        order_N,
        config.batch_size,
        lambda order_SB: group_alike(order_SB, canvases_N2, length=config.micro_batch_size),
    )


def _in_steps(order_N: IntArray, batch_size: int, divide: Callable[[IntArray], Grouping]) -> Grouping:
    """Return consecutive steps of batch_size, the last one short where a rest remains, each divided into passes."""
    full_N, rest_N = np.split(order_N, [len(order_N) // batch_size * batch_size])
    parts = [full_N.reshape(-1, batch_size), rest_N.reshape(1, -1)]
    return joined([divide(part) for part in parts if part.size])
