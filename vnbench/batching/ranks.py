"""Share the steps of a plan among the ranks of a distributed run, at similar cost for each rank."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import numpy as np

from vnbench.batching.epoch import own_canvases
from vnbench.batching.plan import BatchPlan, MicroBatch, PlanConfig, starts
from vnbench.batching.sizes import SizeArray


def deal_to_ranks(sizes_N2: SizeArray, plan: BatchPlan, config: PlanConfig, *, num_ranks: int) -> tuple[BatchPlan, ...]:
    """Return each rank's share of a plan: the same number of steps, each with at least one micro-batch.

    Each step keeps its examples for any number of ranks, so training does not depend on that number. Micro-batches go,
    by descending padded pixels, to the rank with the fewest padded pixels so far. If their number is not a multiple of
    the number of ranks, the costliest micro-batches of several examples are halved until it is; this gives no rank more
    passes. A last step with fewer examples than ranks is joined to the step before it.

    Raises:
        ValueError: ``num_ranks`` is below 1 or above the batch size, or ``plan_epoch`` would refuse the sizes.
    """
    canvases_N2 = own_canvases(sizes_N2, config)
    if not 1 <= num_ranks <= config.batch_size:
        raise ValueError(f"num_ranks {num_ranks}: must be within 1 to {config.batch_size}, the examples of a step")
    steps = list(plan.steps)
    while sum(len(micro_batch.examples) for micro_batch in steps[-1]) < num_ranks:
        last = steps.pop()
        steps[-1] += last
    shares = [_deal_step(step, canvases_N2, num_ranks=num_ranks) for step in steps]
    return tuple(BatchPlan.from_steps(rank_steps) for rank_steps in zip(*shares, strict=True))


def step_efficiency(ranks: Sequence[BatchPlan]) -> float:
    """Return the share of time in which ranks do not wait for the slowest, if time is proportional to padded pixels.

    This is the mean of the ranks' padded pixels divided by their maximum, each summed over the steps.
    """
    pixels_RS = np.stack([np.add.reduceat(rank.padded_pixels_M, starts(rank.passes_S)) for rank in ranks])
    return float(pixels_RS.mean(axis=0).sum() / pixels_RS.max(axis=0).sum())


def _deal_step(step: Sequence[MicroBatch], canvases_N2: SizeArray, *, num_ranks: int) -> list[list[MicroBatch]]:
    passes_per_rank = -(-len(step) // num_ranks)
    micro_batches = sorted(step, key=lambda micro_batch: -micro_batch.padded_pixels)
    while len(micro_batches) < passes_per_rank * num_ranks:
        divisible = next((place for place, one in enumerate(micro_batches) if len(one.examples) > 1), None)
        if divisible is None:
            break
        for half in _halves(micro_batches.pop(divisible), canvases_N2):
            insort(micro_batches, half, key=lambda micro_batch: -micro_batch.padded_pixels)
    shares: list[list[MicroBatch]] = [[] for _ in range(num_ranks)]
    pixels = [0] * num_ranks
    for micro_batch in micro_batches:
        rank = min(
            (rank for rank in range(num_ranks) if len(shares[rank]) < passes_per_rank), key=lambda rank: pixels[rank]
        )
        shares[rank].append(micro_batch)
        pixels[rank] += micro_batch.padded_pixels
    return shares


def _halves(micro_batch: MicroBatch, canvases_N2: SizeArray) -> tuple[MicroBatch, MicroBatch]:
    by_area = sorted(micro_batch.examples, key=lambda example: -int(canvases_N2[example].prod()))
    middle = -(-len(by_area) // 2)
    first, second = (
        MicroBatch(tuple(part), tuple(canvases_N2[part].max(axis=0).tolist()))
        for part in (by_area[:middle], by_area[middle:])
    )
    return first, second
