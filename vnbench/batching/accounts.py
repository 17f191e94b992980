"""Account for the costs of a plan: padding and its lower bound, shapes, and pairs repeated between epochs.

Shape suffixes: N examples, M micro-batches, S optimizer steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vnbench.batching.alignment import IntArray, align
from vnbench.batching.bounds import fewest_padded_pixels
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, PlanConfig
from vnbench.batching.shapes import choose_grid
from vnbench.batching.sizes import SizeArray, check_sizes
from vnbench.records.readings import BatchingAccount
from vnbench.units import MAX_SIDE_PIXELS

NUM_EPOCHS_BEFORE = 2
"""Number of earlier epochs whose pairs are compared with those of the epoch in question."""


def account(sizes_N2: SizeArray, plan: BatchPlan, *, previous: Sequence[BatchPlan] = ()) -> BatchingAccount:
    """Return the account of a plan; ``previous`` holds the plans of the epochs before it, the latest first.

    Raises:
        ValueError: the sizes are not positive whole pixels of shape (N, 2), or a plan does not hold each of the N
            examples exactly once.
    """
    check_sizes(sizes_N2)
    for one in (plan, *previous):
        _check_plan(one, num_examples=len(sizes_N2))
    valid_pixels = int(sizes_N2.prod(axis=1).sum())
    padded_M = plan.padded_pixels_M
    padded_pixels = int(padded_M.sum())
    fewest_pixels = fewest_padded_pixels(
        align(sizes_N2).prod(axis=1), num_micro_batches=len(padded_M), micro_batch_size=int(plan.lengths_M.max())
    )
    before, two_before, either = _repeated_pair_ratios(plan, previous[:NUM_EPOCHS_BEFORE])
    # One number per shape: sorting numbers is many times faster than sorting rows.
    shapes_M = (plan.lengths_M * MAX_SIDE_PIXELS + plan.canvases_M2[:, 0]) * MAX_SIDE_PIXELS + plan.canvases_M2[:, 1]
    return BatchingAccount(
        num_examples=len(sizes_N2),
        num_batches=len(padded_M),
        num_steps=len(plan.passes_S),
        valid_pixels=valid_pixels,
        padded_pixels=padded_pixels,
        padding_ratio=1 - valid_pixels / padded_pixels,
        lower_bound_padding_ratio=1 - valid_pixels / fewest_pixels,
        distinct_shapes=len(np.unique(shapes_M)),
        largest_padded_pixels=int(padded_M.max()),
        repeated_pair_ratio=before,
        repeated_pair_ratio_two_before=two_before,
        repeated_pair_ratio_either=either,
        lag_1_width_correlation=_lag_1_width_correlation(sizes_N2, plan),
    )


def account_for_epoch(sizes_N2: SizeArray, config: PlanConfig, *, epoch: int = NUM_EPOCHS_BEFORE) -> BatchingAccount:
    """Return the account of one epoch's plan, with the pairs that it repeats from the epochs before.

    Raises:
        ValueError: as for ``plan_epoch``.
    """
    grid = None if config.shapes is None else choose_grid(align(sizes_N2), count=config.shapes)
    plan, *previous = (
        plan_epoch(sizes_N2, config, epoch=one, grid=grid)
        for one in range(epoch, max(epoch - NUM_EPOCHS_BEFORE, 0) - 1, -1)
    )
    return account(sizes_N2, plan, previous=previous)


def _repeated_pair_ratios(plan: BatchPlan, previous: Sequence[BatchPlan]) -> tuple[float | None, ...]:
    """Return the shares of pairs within a step that shared one in each of the two plans before, and in either of them.

    None without pairs, or without so many plans.
    """
    num_pairs = _num_shared_pairs(plan)
    repeated = [_num_shared_pairs(plan, one) for one in previous] if num_pairs else []
    if len(repeated) == NUM_EPOCHS_BEFORE:
        repeated.append(sum(repeated) - _num_shared_pairs(plan, *previous))
    unknown = [None] * (NUM_EPOCHS_BEFORE + 1 - len(repeated))
    return (*(number / num_pairs for number in repeated), *unknown)


def _num_shared_pairs(*plans: BatchPlan) -> int:
    """Return the number of pairs of examples that share a step in every one of some plans."""
    # Examples that share all these steps form a group; every pair in a group counts.
    groups_N = _step_of_example(plans[0])
    for plan in plans[1:]:
        groups_N = groups_N * len(plan.passes_S) + _step_of_example(plan)
    _, counts = np.unique(groups_N, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _step_of_example(plan: BatchPlan) -> IntArray:
    steps_N = np.empty_like(plan.order_N)
    steps_N[plan.order_N] = np.repeat(np.arange(len(plan.passes_S)), plan.lengths_S)
    return steps_N


def _lag_1_width_correlation(sizes_N2: SizeArray, plan: BatchPlan) -> float | None:
    """Return the correlation between mean widths of consecutive full steps; None if under three or all equal."""
    widths_N = sizes_N2[plan.order_N, 1]
    lengths_S = plan.lengths_S
    means_S = np.add.reduceat(widths_N, np.cumsum(lengths_S) - lengths_S) / lengths_S
    means_S = means_S[lengths_S == lengths_S.max()]
    if len(means_S) < 3 or np.ptp(means_S[:-1]) == 0 or np.ptp(means_S[1:]) == 0:
        return None
    return float(np.corrcoef(means_S[:-1], means_S[1:])[0, 1])


def _check_plan(plan: BatchPlan, *, num_examples: int) -> None:
    if plan.passes_S.min(initial=1) < 1 or plan.lengths_M.min(initial=1) < 1:
        raise ValueError("the plan has a step or a micro-batch without examples")
    if not np.array_equal(np.sort(plan.order_N), np.arange(num_examples)):
        raise ValueError(f"the plan must hold each of the {num_examples} examples exactly once")
