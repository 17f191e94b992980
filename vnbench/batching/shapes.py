"""Few canvases for many sizes: which ones cost the least padding.

Each new shape costs a plan of cuDNN, a graph of a compiler or a CUDA graph; snapping canvases to a grid bounds their
number, and pays for it in padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnbench.batching.alignment import IntArray
from vnbench.batching.sizes import SizeArray

MAX_EDGES = 512
"""Most lengths among which the edges of a side are chosen: 3,200 to 12,800 px has 301 aligned ones. Of more,
that many are taken at even steps, which bounds the time for any data set."""

_UNREACHABLE = 2**61
"""Cost of a stretch that ends before it begins: above the pixels of any data set, and twice it still fits 64 bits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CanvasGrid:
    """Canvases of every height with every width of two short lists.

    The canvas of a micro-batch, its members' largest height by their largest width, is then one of the grid too.
    """

    heights_E: IntArray
    """Heights in pixels, ascending."""
    widths_E: IntArray
    """Widths in pixels, ascending."""

    def snap(self, sizes_N2: SizeArray) -> SizeArray:
        """Return the smallest canvas of the grid for each (height, width); none may exceed the largest."""
        heights_N, widths_N = sizes_N2.T
        return np.stack(
            [
                self.heights_E[np.searchsorted(self.heights_E, heights_N)],
                self.widths_E[np.searchsorted(self.widths_E, widths_N)],
            ],
            axis=1,
        )


def choose_grid(aligned_N2: SizeArray, *, count: int) -> CanvasGrid:
    """Return the grid of up to ``count`` canvases that pads the N examples, each alone, to the fewest pixels.

    For each number of heights, their edges and then those of the widths are chosen by dynamic programming over the
    lengths that occur, each exactly for the other side as it is then; the best number is taken.

    Raises:
        ValueError: ``count`` below 1, or no examples.
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
    """Return the best 1, 2, ... edges for some lengths, ascending and with the largest length among them.

    Each length is rounded up to the next edge; the sum of weight x rounded length is the least that so many edges
    allow. The list ends at ``most`` edges, or where every length has one.
    """
    lengths_U, places_N = _candidates(lengths_N)
    totals = np.append(0, np.cumsum(np.bincount(places_N, weights=weights_N).astype(np.int64)))
    num_lengths = len(lengths_U)
    # Cost of a stretch from place a (first index) to place b (second), both included.
    costs_UU = (totals[np.newaxis, 1:] - totals[:-1, np.newaxis]) * lengths_U
    costs_UU[np.tril_indices(num_lengths, k=-1)] = _UNREACHABLE
    best_U = costs_UU[0]
    # Per further edge: where, for a last stretch that ends at b, the one before it ends.
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
    """Return the lengths that may be edges, ascending, and the place of each length's own."""
    lengths_U: IntArray = np.unique(lengths_N)
    if len(lengths_U) > MAX_EDGES:
        lengths_U = lengths_U[np.linspace(0, len(lengths_U) - 1, MAX_EDGES + 1).astype(np.int64)[1:]]
    return lengths_U, np.searchsorted(lengths_U, lengths_N)
