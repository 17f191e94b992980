"""Find where the mean of parallel series changes, by circular binary segmentation.

A stretch of the series is compared with the rest of its segment. The largest of all standardised differences is
referred to its distribution under permutations of the observations, which needs no normal noise. Where it is
significant, the segment is cut, and its parts are treated alike (Olshen, Venkatraman, Lucito and Wigler, Circular
binary segmentation for the analysis of array-based DNA copy number data, Biostatistics 5, 2004). Here one cut is tried
before a stretch with two ends, each with half of the error rate, and all series are permuted together, so that what
they share stays shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

NUM_PERMUTATIONS = 999

MIN_OBSERVATIONS = 2
"""Fewest observations on either side of a change: a single odd one is an outlier."""

BATCH, MAX_TERMS = 50, 2_000_000
"""Permutations that are made at once, and terms that they may take: 16 MB."""

Array = NDArray[np.float64]


def change_points(values_SN: Array, *, cuts: Sequence[int], level: float, seed: int) -> tuple[int, ...]:
    """Return where the mean of any series changes: the observation from which on it is another one.

    ``values_SN`` holds S series of N observations, NaN where one has none; ``cuts`` are the places between 0 and N at
    which a change can be. ``level`` is the probability that series without a change show one if their observations
    are exchangeable; each further segment, which a change that was found leaves, adds as much again at most.
    """
    random = np.random.default_rng(seed)
    num_observations = values_SN.shape[1]
    found: set[int] = set()
    pending = [(0, num_observations)]
    while pending:
        start, stop = pending.pop()
        inner = np.array([cut - start for cut in cuts if start < cut < stop])
        ends = _changed_stretch(values_SN[:, start:stop], inner, level=level, random=random)
        if ends:
            bounds = sorted({start, stop, *(start + end for end in ends)})
            found.update(bounds[1:-1])
            pending += pairwise(bounds)
    return tuple(sorted(found))


def _changed_stretch(
    values_SN: Array, cuts: NDArray[np.int64], *, level: float, random: np.random.Generator
) -> tuple[int, ...]:
    """Return where a stretch of a segment that differs from the rest begins and ends; empty without one.

    One end is that of the segment if a single cut is significant.
    """
    num_observations = values_SN.shape[1]
    if not len(cuts) or num_observations < 2 * MIN_OBSERVATIONS:
        return ()
    weights_SN = np.isfinite(values_SN).astype(np.float64)
    counts_S1 = weights_SN.sum(axis=1, keepdims=True)
    centred_SN = np.where(weights_SN > 0, values_SN, 0.0)
    centred_SN -= weights_SN * centred_SN.sum(axis=1, keepdims=True) / np.maximum(counts_S1, 1)
    deviations_S1 = np.sqrt((centred_SN**2).sum(axis=1, keepdims=True) / np.maximum(counts_S1 - 1, 1))
    usable_S = (deviations_S1[:, 0] > 0) & (counts_S1[:, 0] >= 2 * MIN_OBSERVATIONS)
    if not usable_S.any():
        return ()
    standard_SN, weights_SN = centred_SN[usable_S] / deviations_S1[usable_S], weights_SN[usable_S]
    first, second = np.triu_indices(len(cuts), k=1)
    single = np.stack([cuts, np.full(len(cuts), num_observations)])
    double = np.stack([cuts[first], cuts[second]])
    for stretches_2M in (single, double):
        if stretches_2M.size:
            best, is_significant = _tested(standard_SN, weights_SN, stretches_2M, level=level / 2, random=random)
            if is_significant:
                return tuple(int(end) for end in stretches_2M[:, best] if end < num_observations)
    return ()


def _tested(
    values_SN: Array,
    weights_SN: Array,
    stretches_2M: NDArray[np.int64],
    *,
    level: float,
    random: np.random.Generator,
) -> tuple[int, bool]:
    """Return the stretch that differs most from the rest, and whether permutations seldom show as large a difference.

    Permutations end as soon as too many did.
    """
    differences_M = _differences(values_SN[None], weights_SN[None], stretches_2M)[0]
    best = int(differences_M.argmax())
    # A sum in another order differs in its last digits.
    observed = float(differences_M[best]) * (1 - 1e-9)
    allowed = level * (NUM_PERMUTATIONS + 1) - 1
    size = max(1, min(BATCH, MAX_TERMS // (values_SN.shape[0] * stretches_2M.shape[1])))
    num_larger, left = 0, NUM_PERMUTATIONS
    while left and num_larger <= allowed:
        num = min(size, left)
        left -= num
        orders_BN = random.permuted(np.tile(np.arange(values_SN.shape[1]), (num, 1)), axis=1)
        values_BSN = values_SN[:, orders_BN].transpose(1, 0, 2)
        weights_BSN = weights_SN[:, orders_BN].transpose(1, 0, 2)
        num_larger += int((_differences(values_BSN, weights_BSN, stretches_2M).max(axis=1) >= observed).sum())
    return best, num_larger <= allowed


def _differences(values_BSN: Array, weights_BSN: Array, stretches_2M: NDArray[np.int64]) -> Array:
    """Return the largest difference of any series between each stretch and the rest, standardised: (B, M).

    The values of each series have mean 0 and variance 1.
    """
    start_M, stop_M = stretches_2M
    sums_BSN, counts_BSN = (
        np.concatenate([np.zeros((*one.shape[:2], 1)), one.cumsum(axis=2)], axis=2) for one in (values_BSN, weights_BSN)
    )
    within_BSM = counts_BSN[..., stop_M] - counts_BSN[..., start_M]
    total_BS1 = counts_BSN[..., -1:]
    is_told_BSM = (within_BSM >= MIN_OBSERVATIONS) & (total_BS1 - within_BSM >= MIN_OBSERVATIONS)
    scale_BSM = np.sqrt(np.where(is_told_BSM, within_BSM * (1 - within_BSM / total_BS1), 1.0))
    standard_BSM = np.abs(sums_BSN[..., stop_M] - sums_BSN[..., start_M]) / scale_BSM
    result: Array = np.where(is_told_BSM, standard_BSM, 0.0).max(axis=1)
    return result
