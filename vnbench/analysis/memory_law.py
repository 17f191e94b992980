"""The law of worst-case memory: a fixed part, and bytes per padded pixel of the micro-batch.

Fitted to the peaks of memory trials that differ in their padded pixels alone. Activations of a convolutional network
grow in proportion to the pixels, and what does not (parameters, optimizer state, workspaces of fixed size) is the fixed
part.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

CARD_SIZES_GIB = (16, 24, 40, 48, 80, 141)
"""Memory of common cards, in GiB as they are named."""

USABLE = 0.9
"""Share of a card up to which a configuration is said to fit with margin: the allocator's fragmentation under changing
widths, and what other programs and the driver hold, come out of the rest."""

MIN_SIZES = 3
"""Different padded sizes from which on each can be left out in turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakPoint:
    """One measured peak."""

    padded_pixels: int
    """Examples x canvas pixels of the micro-batch."""
    peak_bytes: int
    """Its peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLaw:
    """peak = bytes_fixed + bytes_per_pixel x padded pixels."""

    bytes_fixed: float
    """What does not depend on the micro-batch."""
    bytes_per_pixel: float
    """What each padded pixel adds."""
    smallest_pixels: int
    """Fewest padded pixels of a point; below lies extrapolation."""
    largest_pixels: int
    """Most padded pixels of a point; above lies extrapolation."""
    largest_residual: float
    """Largest relative difference of a point from the law."""
    loo_error_median: float | None
    """Median relative error at a size that the law was fitted without; None below MIN_SIZES sizes."""
    loo_error_max: float | None
    """Largest such error."""

    def peak_bytes(self, padded_pixels: float) -> float:
        """Return the peak in bytes that the law gives to a micro-batch of so many padded pixels."""
        return self.bytes_fixed + self.bytes_per_pixel * padded_pixels

    def largest_micro_batch(self, *, memory_bytes: float, pixels_per_example: float) -> int:
        """Return how many examples of a canvas fit into some memory; 0 where not even one does."""
        if self.bytes_per_pixel <= 0:
            raise ValueError("a law without a cost per pixel bounds no micro-batch")
        room = memory_bytes - self.bytes_fixed
        return max(0, int(room / (self.bytes_per_pixel * pixels_per_example)))


def fit_memory_law(points: Sequence[PeakPoint]) -> MemoryLaw | None:
    """Return the law of least squares of relative residuals, both terms at least 0; None below two different sizes."""
    pixels = sorted({point.padded_pixels for point in points})
    if len(pixels) < 2:
        return None
    fixed, per_pixel = _fit(points)
    residuals = [abs(point.peak_bytes / (fixed + per_pixel * point.padded_pixels) - 1) for point in points]
    errors = _leave_one_out_errors(points, pixels) if len(pixels) >= MIN_SIZES else []
    return MemoryLaw(
        bytes_fixed=fixed,
        bytes_per_pixel=per_pixel,
        smallest_pixels=pixels[0],
        largest_pixels=pixels[-1],
        largest_residual=max(residuals),
        loo_error_median=statistics.median(errors) if errors else None,
        loo_error_max=max(errors) if errors else None,
    )


def _fit(points: Sequence[PeakPoint]) -> tuple[float, float]:
    pixels = np.array([point.padded_pixels for point in points], dtype=np.float64)
    peaks = np.array([point.peak_bytes for point in points], dtype=np.float64)
    # Each row divided by its peak makes the residuals relative; pixels in units of the largest keep both terms alike.
    scale = pixels.max()
    rows = np.stack([np.ones_like(pixels), pixels / scale], axis=1) / peaks[:, np.newaxis]
    # In units of the largest peak, so that the solver works with numbers near one.
    (fixed, slope), _ = nnls(rows * peaks.max(), np.ones_like(peaks))
    return float(fixed * peaks.max()), float(slope * peaks.max() / scale)


def _leave_one_out_errors(points: Sequence[PeakPoint], pixels: Sequence[int]) -> list[float]:
    errors = []
    for left_out in pixels:
        fixed, per_pixel = _fit([point for point in points if point.padded_pixels != left_out])
        peaks = [point.peak_bytes for point in points if point.padded_pixels == left_out]
        errors.append(abs((fixed + per_pixel * left_out) / statistics.fmean(peaks) - 1))
    return errors
