"""Choose a few canvases for many sizes, with the least padding.

Each new shape costs a cuDNN plan, a compiled graph or a CUDA graph. Snapping canvases to a grid limits the number of
shapes, at the price of more padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnbench.batching.alignment import IntArray
from vnbench.batching.sizes import SizeArray

MAX_EDGES = 512
"""Most candidate lengths for the edges of a side; 3,200 to 12,800 px has 301 aligned lengths. If there are more, this
many are taken at equal steps, which limits the time for any data set."""

_UNREACHABLE = 2**61
"""Cost of a run that ends before it begins: above the pixels of any data set, and its double still fits 64 bits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CanvasGrid:
    """The canvases that combine each of a few heights with each of a few widths.

    The canvas of a micro-batch has the largest height and the largest width of its members, so it is in the grid too.
    """

    heights_E: IntArray
    """Heights in pixels, ascending."""
    widths_E: IntArray
    """Widths in pixels, ascending."""

    def snap(self, sizes_N2: SizeArray) -> SizeArray:
        """Return the smallest canvas that holds each (height, width), shape (N, 2); no size may exceed the largest."""
        heights_N, widths_N = sizes_N2.T
        return np.stack(
            [
                self.heights_E[np.searchsorted(self.heights_E, heights_N)],
                self.widths_E[np.searchsorted(self.widths_E, widths_N)],
            ],
            axis=1,
        )


def choose_grid(aligned_N2: SizeArray, *, count: int) -> CanvasGrid:
    """Return the grid of up to ``count`` canvases with the fewest padded pixels, if each example is padded alone.

    For each number of heights, dynamic programming over the lengths that occur chooses first the heights and then the
    widths. Each choice is optimal for the other side as it stands. The best number of heights wins.

    Raises:
        ValueError: ``count`` is below 1, or there are no examples.
    """
    if count < 1 or len(aligned_N2) == 0:
        raise ValueError(f"cannot choose {count} canvases for {len(aligned_N2)} examples")
    heights_N, widths_N = aligned_N2.T
    best: tuple[int, CanvasGrid] | None = None
    for heights_E in cheapest_edges(heights_N, widths_N, most=count):
        snapped_N = heights_E[np.searchsorted(heights_E, heights_N)]
        widths_E = cheapest_edges(widths_N, snapped_N, most=count // len(heights_E))[-1]
        grid = CanvasGrid(heights_E=heights_E, widths_E=widths_E)
        padded_pixels = int(grid.snap(aligned_N2).prod(axis=1).sum())
        if best is None or padded_pixels < best[0]:
            best = padded_pixels, grid
    assert best is not None
    return best[1]


def cheapest_edges(lengths_N: IntArray, weights_N: IntArray, *, most: int) -> list[IntArray]:
    """Return the best set of 1, 2, ... edges for the lengths; edges ascend and include the largest length.

    Each length is rounded up to the next edge. A set minimises the sum of weight x rounded length. The list ends with
    ``most`` edges, or when every length has its own edge.
    """
    lengths_U, places_N = _candidates(lengths_N)
    totals = np.append(0, np.cumsum(np.bincount(places_N, weights=weights_N).astype(np.int64)))
    num_lengths = len(lengths_U)
    # Cost of a run from place a (first index) to place b (second), both included.
    costs_UU = (totals[np.newaxis, 1:] - totals[:-1, np.newaxis]) * lengths_U
    costs_UU[np.tril_indices(num_lengths, k=-1)] = _UNREACHABLE
    best_U = costs_UU[0]
    # For each further edge: the end of the run before the last one, if the last one ends at b.
    previous: list[IntArray] = []
    edges = [lengths_U[-1:]]
    for _ in range(1, min(most, num_lengths)):
        sums_UU = best_U[:-1, np.newaxis] + costs_UU[1:]
        previous.append(sums_UU.argmin(axis=0))
        best_U = np.minimum(sums_UU.min(axis=0), _UNREACHABLE)
        places = [num_lengths - 1]
        for before in reversed(previous):
            places.append(int(before[places[-1]]))
        edges.append(lengths_U[places[::-1]])
    return edges


def _candidates(lengths_N: IntArray) -> tuple[IntArray, IntArray]:
    """Return the lengths that may be edges, ascending, and for each length the index of the edge that it rounds to."""
    lengths_U: IntArray = np.unique(lengths_N)
    if len(lengths_U) > MAX_EDGES:
        lengths_U = lengths_U[np.linspace(0, len(lengths_U) - 1, MAX_EDGES + 1).astype(np.int64)[1:]]
    return lengths_U, np.searchsorted(lengths_U, lengths_N)
