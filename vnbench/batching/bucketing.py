"""The order of the bucketed sampler: like sizes side by side, with other neighbours in each epoch.

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
"""Mean of the jitter in batches, where it is not limited.

A pair of examples meets again in the next epoch with about 1 / (4 JITTER_BATCHES), whatever the number of examples. The
waste grows with the share of the epoch that the jitter spans: on 12,000 images of 3,200 to 12,800 x 480 to 640 px, in
batches of 16, it is 4.8 %, of which 2.9 % are alignment.
"""

MAX_JITTER_SHARE = 1 / 340
"""Mean of the jitter, at most, as a share of an epoch's batches: a 68th of each of five height classes, which costs 2 %
of padding where widths are uniform from 3,200 to 12,800 px. Epochs of under 750 batches have less jitter for it, and
repeat more pairs."""


def bucketed_order(
    canvases_N2: SizeArray, *, batch_size: int, rng: np.random.Generator, jitter_batches: float | None = None
) -> IntArray:
    """Return an order whose consecutive batches hold like sizes and come in random order; a rest is last.

    The examples are grouped into classes of like heights. Each class is sorted by width, jittered, and cut into
    batches: an example's place moves up by an exponential number of batches, so that its neighbours differ from epoch
    to epoch. Of the laws tried (uniform, triangular, gamma), at equal padding none repeats notably fewer pairs.
    A class holds one height, or two, four and so on that follow each other, whichever pads least: with few examples or
    much jitter, the batches of a narrow class would spread too far in width.

    Examples that do not fill the last batch of a class, a random choice of them, go to the next taller class. What is
    left after the tallest class is the rest. ``jitter_batches`` sets the mean jitter, whatever the number of examples.
    """
    num_full = len(canvases_N2) // batch_size
    if jitter_batches is None:
        jitter_batches = min(JITTER_BATCHES, MAX_JITTER_SHARE * num_full)
    shuffled_N = rng.permutation(len(canvases_N2))
    jitter_F = jitter_batches * batch_size * rng.exponential(size=num_full * batch_size)
    orders = [
        _jittered(canvases_N2, classes_N, shuffled_N, jitter_F, batch_size=batch_size)
        for classes_N in _height_classes(canvases_N2[:, 0])
    ]
    order_N = min(orders, key=lambda order_N: _padded_pixels(canvases_N2[order_N[: len(jitter_F)]], batch_size))
    full_N, rest_N = np.split(order_N, [len(jitter_F)])
    return np.append(full_N.reshape(num_full, batch_size)[rng.permutation(num_full)].ravel(), rest_N)


def _height_classes(heights_N: IntArray) -> Iterator[IntArray]:
    """Yield each example's class, ascending with its height: of single heights, then of two, four, ... and all."""
    distinct, ranks_N = np.unique(heights_N, return_inverse=True)
    heights_per_class = 1
    while heights_per_class < 2 * len(distinct):
        yield ranks_N // heights_per_class
        heights_per_class *= 2


def _jittered(
    canvases_N2: SizeArray, classes_N: IntArray, shuffled_N: IntArray, jitter_F: FloatArray, *, batch_size: int
) -> IntArray:
    """Return an order that ascends in class; in a class the full batches' examples ascend in width, jittered."""
    # Cutting the class-sorted order straight through carries each class's rest to the front of the next class.
    order_N = shuffled_N[np.argsort(classes_N[shuffled_N], kind="stable")]
    full_F, rest_N = np.split(order_N, [len(jitter_F)])
    # The last example of a batch is of its highest class, which becomes the batch's.
    classes_F = np.repeat(classes_N[full_F[batch_size - 1 :: batch_size]], batch_size)
    # lexsort is stable: equal widths keep the order of the shuffle.
    full_F = full_F[np.lexsort((canvases_N2[full_F, 1], classes_F))]
    full_F = full_F[np.lexsort((np.arange(len(full_F)) + jitter_F, classes_F))]
    return np.append(full_F, rest_N)


def _padded_pixels(canvases_F2: SizeArray, batch_size: int) -> int:
    """Return the padded pixels of consecutive batches, each as one micro-batch."""
    return batch_size * int(canvases_F2.reshape(-1, batch_size, 2).max(axis=1).prod(axis=1).sum())
