"""Order examples for the bucketed sampler: similar sizes together, with different neighbours in each epoch.

Shape suffixes: N examples, F examples of full batches, S full batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vnbench.batching.alignment import IntArray
from vnbench.batching.sizes import SizeArray

FloatArray: TypeAlias = npt.NDArray[np.float64]

JITTER_BATCHES = 2.2
"""Mean jitter, in batches, unless MAX_JITTER_SHARE limits it.

A pair of examples meets again in the next epoch with a probability of about 1 / (4 JITTER_BATCHES), for any number of
examples. The padding grows with the share of the epoch that the jitter spans: for 12,000 images of 3,200 to 12,800 x
480 to 640 px in batches of 16, the padding is 4.8 %, of which alignment takes 2.9 %.
"""

MAX_JITTER_SHARE = 1 / 340
"""Largest mean jitter as a share of an epoch's batches: a 68th of each of five height classes. It adds 2 % padding if
widths are uniform from 3,200 to 12,800 px. Epochs of under 750 batches therefore have less jitter and repeat more
pairs."""


def bucketed_order(
    canvases_N2: SizeArray, *, batch_size: int, rng: np.random.Generator, jitter_batches: float | None = None
) -> IntArray:
    """Return an order whose consecutive batches hold similar sizes, in random order; a remainder comes last.

    The examples are grouped into classes of similar height. Each class is sorted by width, jittered and cut into
    batches. The jitter moves an example up by an exponentially distributed number of batches, so its neighbours differ
    from epoch to epoch. At equal padding, no other law that was tried (uniform, triangular, gamma) repeats notably
    fewer pairs. A class holds one, two, four or more consecutive heights, whichever pads least: with few examples or
    much jitter, the batches of a narrow class would spread too far in width.

    If a class does not fill its last batch, the left-over examples, chosen at random, go to the next taller class. The
    left-over of the tallest class is the remainder. ``jitter_batches`` sets the mean jitter for any number of examples.
    """
    num_full = len(canvases_N2) // batch_size
    if jitter_batches is None:
        jitter_batches = min(JITTER_BATCHES, MAX_JITTER_SHARE * num_full)
    shuffled_N = rng.permutation(len(canvases_N2))
    jitter_F = jitter_batches * batch_size * rng.exponential(size=num_full * batch_size)
    widths_N = _narrow(canvases_N2[:, 1])
    orders = [
        _jittered(widths_N, classes_N, shuffled_N, jitter_F, batch_size=batch_size)
        for classes_N in _height_classes(canvases_N2[:, 0])
    ]
    order_N = min(orders, key=lambda order_N: _padded_pixels(canvases_N2[order_N[: len(jitter_F)]], batch_size))
    full_N, rest_N = np.split(order_N, [len(jitter_F)])
    return np.append(full_N.reshape(num_full, batch_size)[rng.permutation(num_full)].ravel(), rest_N)


def _height_classes(heights_N: IntArray) -> Iterator[IntArray]:
    """Yield the class of each example, ascending with height: first one height per class, then 2, 4, ... and all."""
    distinct, ranks_N = np.unique(heights_N, return_inverse=True)
    heights_per_class = 1
    while heights_per_class < 2 * len(distinct):
        yield _narrow(ranks_N // heights_per_class)
        heights_per_class *= 2


def _narrow(values_N: IntArray) -> IntArray:
    """Return whole numbers of at least 0 in the smallest type that holds them: numpy sorts 16 bits fastest."""
    return values_N.astype(np.min_scalar_type(values_N.max(initial=0)))


def _jittered(
    widths_N: IntArray, classes_N: IntArray, shuffled_N: IntArray, jitter_F: FloatArray, *, batch_size: int
) -> IntArray:
    """Return an order that ascends by class; within a class, examples of full batches ascend by jittered width."""
    # Cutting the class-sorted order straight through carries the remainder of each class into the next class.
    order_N = shuffled_N[np.argsort(classes_N[shuffled_N], kind="stable")]
    full_F, rest_N = np.split(order_N, [len(jitter_F)])
    # The last example of a batch has the highest class in it, which becomes the class of the batch.
    classes_F = np.repeat(classes_N[full_F[batch_size - 1 :: batch_size]], batch_size)
    # lexsort is stable: equal widths keep the shuffled order.
    full_F = full_F[np.lexsort((widths_N[full_F], classes_F))]
    full_F = full_F[np.lexsort((np.arange(len(full_F)) + jitter_F, classes_F))]
    return np.append(full_F, rest_N)


def _padded_pixels(canvases_F2: SizeArray, batch_size: int) -> int:
    """Return the padded pixels of consecutive batches, each as one micro-batch."""
    return batch_size * int(canvases_F2.reshape(-1, batch_size, 2).max(axis=1).prod(axis=1).sum())
