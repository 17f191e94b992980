"""Plan which examples share a batch, from their sizes alone.

A sampler orders the examples of an epoch into batches, one per optimizer step; a batch is cut into micro-batches, one
per forward and backward pass; a micro-batch is padded to one canvas. ``account`` says what a plan pays in padding and
in randomness, ``account_for_sampler`` what a sampler pays.

Shape suffixes: N examples, M micro-batches, S optimizer steps, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from vnbench.data.sizes import MAX_SEED, SizeArray
from vnbench.readings import BatchingAccount
from vnbench.spec import ALIGNMENT, SamplerName
from vnbench.units import MAX_SIDE_PIXELS

IntArray: TypeAlias = npt.NDArray[np.int64]

Sampler: TypeAlias = Callable[[SizeArray, int, np.random.Generator], Sequence[IntArray]]
"""(sizes_N2, batch_size, rng) -> batches of example indices: every example once, in batches of exactly batch_size but
for the last one, which holds the rest. Only the last batch may be short, or the number of steps, and with it the
comparison between samplers, would depend on the sampler."""

POOL_BATCHES = 32
"""Most batches that the bucketed sampler sorts by width at once.

Widths of 3,200 to 12,800 px in pools of K batches waste about 0.6 / K, and the pairs that meet again in the next epoch
grow with K. On 12,000 such images of 480 to 640 px height, in batches of 16, pools of at most 32 leave 4.7 % of waste
and repeat 12.5 % of the pairs. Grouping cannot go below 2.9 %, so larger pools would save less than 2 % more.
"""

MAX_EPOCH = 2**32 - 1
"""Largest epoch: the lower half of the second word of the Philox key."""

_PLAN_STREAM = int.from_bytes(b"plan") << 32
"""Upper half of the second word of the Philox key: keeps plans independent of what else is drawn from the same seed."""

_UNREACHABLE = 2**61
"""Cost of a state that no partition reaches: above the pixels of any data set, and twice it still fits 64 bits."""

_Lengths = TypeVar("_Lengths", int, IntArray)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """The order in which one epoch visits its examples."""

    steps: tuple[tuple[tuple[int, ...], ...], ...]
    """Optimizer steps, each of micro-batches, each of example indices (rows of the sizes)."""

    @property
    def micro_batches(self) -> tuple[tuple[int, ...], ...]:
        """The micro-batches of all steps, in order."""
        return tuple(chain.from_iterable(self.steps))


def align(length: _Lengths) -> _Lengths:
    """Return a length in pixels, or an array of them, rounded up to the next multiple of ALIGNMENT."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def sample_random(sizes_N2: SizeArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """Return the batches of a random order, whatever the sizes."""
    return _cut(rng.permutation(len(sizes_N2)), batch_size)


def sample_bucketed(sizes_N2: SizeArray, batch_size: int, rng: np.random.Generator) -> list[IntArray]:
    """Return batches of like sizes in a random order, each batch's examples in ascending order of aligned width.

    The examples, shuffled, are grouped into classes of one aligned height, and each class into pools of at most
    POOL_BATCHES batches; a pool is sorted by aligned width and cut. Examples that do not fill the last batch of a class
    go to the next taller class, where they raise no canvas's height. What is left after the tallest class is the short
    batch, the last one; the order of the others is shuffled over the whole epoch. Equal sizes stay in random order.
    """
    num_full = len(sizes_N2) // batch_size
    shuffled_N = rng.permutation(len(sizes_N2))
    # Cutting the class-sorted order straight through carries each class's rest to the front of the next class.
    order_N = shuffled_N[np.argsort(align(sizes_N2[shuffled_N, 0]), kind="stable")]
    heights_N, widths_N = align(sizes_N2[order_N]).T
    # The last example of a batch is its tallest, so it names the batch's class.
    pools_S = _pools(heights_N[: num_full * batch_size].reshape(num_full, batch_size)[:, -1])
    # The short batch is the last pool, on its own. lexsort is stable: equal widths keep the order of the shuffle.
    pools_N = np.append(pools_S, num_full)[np.arange(len(order_N)) // batch_size]
    *batches, rest = np.split(order_N[np.lexsort((widths_N, pools_N))], np.arange(1, num_full + 1) * batch_size)
    batches = [batches[i] for i in rng.permutation(num_full)]
    return [*batches, rest] if len(rest) else batches


def _pools(classes_S: IntArray) -> IntArray:
    """Return the pool of each of the full batches, given their classes in ascending order; ascending from 0.

    The pools of a class have equal sizes but for one batch: a class of 33 batches makes 17 + 16, not 32 + 1, because a
    pool of one batch is not sorted at all.
    """
    _, starts, inverse_S, counts = np.unique(classes_S, return_index=True, return_inverse=True, return_counts=True)
    num_pools = -(-counts // POOL_BATCHES)
    first_pools = np.cumsum(num_pools) - num_pools
    ranks_S = np.arange(len(classes_S)) - starts[inverse_S]
    pools_S: IntArray = first_pools[inverse_S] + ranks_S * num_pools[inverse_S] // counts[inverse_S]
    return pools_S


SAMPLERS: Mapping[SamplerName, Sampler] = {"random": sample_random, "bucketed": sample_bucketed}
"""Every sampler under its name. A new one is a function here and its name in ``spec.SamplerName``."""


def plan_epoch(
    sizes_N2: SizeArray, *, sampler: SamplerName, batch_size: int, micro_batch_size: int, seed: int, epoch: int
) -> BatchPlan:
    """Return the plan of one epoch: every example once, batch_size examples per step but for the last step.

    Micro-batches are consecutive cuts of micro_batch_size from the sampler's batches; the last of the epoch may be
    short. The plan depends on the arguments alone: the sampler draws from a Philox generator keyed by (seed, epoch).

    Raises:
        ValueError: sizes that are not whole positive pixels of shape (N, 2) or are empty, an unknown sampler, a
            micro_batch_size that does not divide batch_size, or a seed or epoch out of range.
    """
    _check_sizes(sizes_N2)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r}: must be one of {', '.join(SAMPLERS)}")
    if batch_size < 1 or micro_batch_size < 1 or batch_size % micro_batch_size:
        raise ValueError(f"micro_batch_size {micro_batch_size} must divide batch_size {batch_size}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed}: must be within 0 to {MAX_SEED}")
    if not 0 <= epoch <= MAX_EPOCH:
        raise ValueError(f"epoch {epoch}: must be within 0 to {MAX_EPOCH}")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, _PLAN_STREAM + epoch], dtype=np.uint64)))
    batches = SAMPLERS[sampler](sizes_N2, batch_size, rng)
    return BatchPlan(
        steps=tuple(tuple(tuple(cut) for cut in _cut(batch.tolist(), micro_batch_size)) for batch in batches)
    )


def account(sizes_N2: SizeArray, plan: BatchPlan, *, previous: BatchPlan | None = None) -> BatchingAccount:
    """Return what a plan pays: padding, its lower bound, canvas shapes, and pairs repeated from the previous plan.

    A micro-batch's canvas is its largest height by its largest width, both aligned; it costs examples x canvas pixels.

    Raises:
        ValueError: sizes that are not whole positive pixels of shape (N, 2), or a plan that does not hold each of the
            N examples exactly once.
    """
    _check_sizes(sizes_N2)
    num_examples = len(sizes_N2)
    micro_batches = plan.micro_batches
    lengths_M = np.array([len(micro_batch) for micro_batch in micro_batches], dtype=np.int64)
    order_N = _flat_order(plan, num_examples=num_examples)
    aligned_N2 = align(sizes_N2)
    canvases_M2 = np.maximum.reduceat(aligned_N2[order_N], np.cumsum(lengths_M) - lengths_M, axis=0)

    valid_pixels = int(sizes_N2.prod(axis=1).sum())
    padded_pixels = int((lengths_M * canvases_M2.prod(axis=1)).sum())
    fewest_pixels = _fewest_padded_pixels(
        aligned_N2.prod(axis=1), num_micro_batches=len(lengths_M), micro_batch_size=int(lengths_M.max())
    )
    # One number per shape: sorting numbers is many times faster than sorting rows.
    shapes_M = (lengths_M * MAX_SIDE_PIXELS + canvases_M2[:, 0] // ALIGNMENT) * MAX_SIDE_PIXELS
    shapes_M += canvases_M2[:, 1] // ALIGNMENT
    return BatchingAccount(
        num_examples=num_examples,
        num_batches=len(lengths_M),
        num_steps=len(plan.steps),
        valid_pixels=valid_pixels,
        padded_pixels=padded_pixels,
        padding_ratio=1 - valid_pixels / padded_pixels,
        lower_bound_padding_ratio=1 - valid_pixels / fewest_pixels,
        distinct_shapes=len(np.unique(shapes_M)),
        repeated_pair_ratio=None if previous is None else _repeated_pair_ratio(plan, previous, num_examples),
    )


def account_for_sampler(
    sizes_N2: SizeArray, *, sampler: SamplerName, batch_size: int, micro_batch_size: int, seed: int
) -> BatchingAccount:
    """Return the account of a sampler's epoch 1, with the pairs that it repeats from epoch 0.

    Raises:
        ValueError: as ``plan_epoch``.
    """
    first, second = (
        plan_epoch(
            sizes_N2,
            sampler=sampler,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
            epoch=epoch,
        )
        for epoch in (0, 1)
    )
    return account(sizes_N2, second, previous=first)


def _fewest_padded_pixels(areas_N: IntArray, *, num_micro_batches: int, micro_batch_size: int) -> int:
    """Return a lower bound, in pixels, on the canvases of any grouping into so many micro-batches of at most that size.

    ``areas_N`` are aligned heights x aligned widths. A micro-batch of n examples costs n x max height x max width, at
    least n x its largest area, so the cheapest grouping under that second cost bounds every grouping under the first.
    It is found exactly, in one dimension:

    - Some cheapest grouping is consecutive in ascending order of area. Take the group with the largest area of all and
      exchange its other members for the next largest: its own cost stays, no other group changes its number, and each
      gets a smaller member for a larger one, so no other maximum rises. Repeat with the remaining groups.
    - Over consecutive groupings: K groups of at most m leave K m - N places free, its slack. Let f(d, j) be the least
      cost of the first j groups when they left d places free, that is of the first j m - d examples. The last of them
      has m - e examples and ends at the largest, so f(d, j) = min over e of f(d - e, j - 1) + (m - e) x area[j m - d].
      The groups that leave none (e = 0) form a running sum along j, which turns that recursion into a running minimum.

    All numbers are whole, so the bound is exact. A plan from ``plan_epoch`` has a slack below m, so it takes at most
    N x m operations (a million examples in batches of 1,024: 0.2 s).
    """
    slack = num_micro_batches * micro_batch_size - len(areas_N)
    ascending_N = np.sort(areas_N)
    ends_M = np.arange(1, num_micro_batches + 1) * micro_batch_size - 1
    costs = np.full((slack + 1, num_micro_batches + 1), _UNREACHABLE, dtype=np.int64)
    costs[0, 0] = 0
    for free in range(slack + 1):
        # Positions outside the examples belong to states that no partition reaches, or that lead to no answer.
        maxima_M = ascending_N[np.clip(ends_M - free, 0, len(areas_N) - 1)]
        full_groups = np.concatenate(([0], np.cumsum(micro_batch_size * maxima_M)))
        newly_free = np.arange(1, min(free, micro_batch_size - 1) + 1)[:, np.newaxis]
        shorter = costs[free - newly_free[:, 0], :-1] + (micro_batch_size - newly_free) * maxima_M
        costs[free, 1:] = np.minimum(costs[free, 1:], shorter.min(axis=0, initial=_UNREACHABLE))
        costs[free] = full_groups + np.minimum.accumulate(costs[free] - full_groups)
    return int(costs[slack, -1])


def _repeated_pair_ratio(plan: BatchPlan, previous: BatchPlan, num_examples: int) -> float | None:
    """Return the share of the pairs within a step that were in one step of ``previous`` too; None without pairs."""
    steps_N = _step_of_example(plan, num_examples=num_examples)
    previous_steps_N = _step_of_example(previous, num_examples=num_examples)
    num_pairs = _num_pairs(np.bincount(steps_N))
    if num_pairs == 0:
        return None
    # Examples that share both steps form a group, and every pair within it is a repeated one.
    _, counts = np.unique(steps_N * len(previous.steps) + previous_steps_N, return_counts=True)
    return _num_pairs(counts) / num_pairs


def _num_pairs(counts: IntArray) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _step_of_example(plan: BatchPlan, *, num_examples: int) -> IntArray:
    """Return the optimizer step of each example, shape (N,)."""
    lengths_S = [sum(map(len, step)) for step in plan.steps]
    steps_N = np.empty(num_examples, dtype=np.int64)
    steps_N[_flat_order(plan, num_examples=num_examples)] = np.repeat(np.arange(len(lengths_S)), lengths_S)
    return steps_N


def _flat_order(plan: BatchPlan, *, num_examples: int) -> IntArray:
    """Return the examples of a plan in order, shape (N,).

    Raises:
        ValueError: an empty step or micro-batch, or examples other than each of 0 to num_examples - 1 once.
    """
    order_N = np.fromiter(chain.from_iterable(plan.micro_batches), dtype=np.int64)
    if not all(plan.steps) or not all(plan.micro_batches):
        raise ValueError("the plan has a step or a micro-batch without examples")
    if not np.array_equal(np.sort(order_N), np.arange(num_examples)):
        raise ValueError(f"the plan must hold each of the {num_examples} examples exactly once")
    return order_N


def _check_sizes(sizes_N2: SizeArray) -> None:
    if sizes_N2.ndim != 2 or sizes_N2.shape[1] != 2 or len(sizes_N2) == 0:
        raise ValueError(f"sizes of shape {sizes_N2.shape}: must be (N, 2) with at least one example")
    if sizes_N2.dtype != np.int64:
        raise ValueError(f"sizes of type {sizes_N2.dtype}: must be int64")
    if sizes_N2.min() < 1 or sizes_N2.max() > MAX_SIDE_PIXELS:
        raise ValueError(f"sizes from {sizes_N2.min()} to {sizes_N2.max()} px: must be within 1 to {MAX_SIDE_PIXELS}")


_Sequence = TypeVar("_Sequence", IntArray, list[int])


def _cut(examples: _Sequence, length: int) -> list[_Sequence]:
    """Return consecutive cuts of a length; the last one may be short."""
    return [examples[start : start + length] for start in range(0, len(examples), length)]
