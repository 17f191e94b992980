"""The law of worst-case memory: a fixed part, and bytes per padded pixel of the micro-batch.

Fitted to the peaks of trials that differ in their padded pixels alone. Activations of a convolutional network grow in
proportion to the pixels, and what does not (parameters, optimizer state, workspaces of fixed size) is the fixed part. A
trial that ran out of memory has no peak, but says that its peak would have been above the memory that there was.
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

NEAR_LIMIT = (0.01, 0.02, 0.05)
"""How far from a peak the memory lies in the cells near the limit, relative to it."""

MAX_ROUNDS = 10
"""Fits after which the censored points that count are left at that: one that alternates is as good in as out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakPoint:
    """One measured peak."""

    padded_pixels: int
    """Examples x canvas pixels of the micro-batch."""
    peak_bytes: int
    """Its peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CensoredPoint:
    """A peak that was not reached, because memory ran out before."""

    padded_pixels: int
    """Examples x canvas pixels of the micro-batch."""
    more_than_bytes: int
    """What its peak exceeds."""


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
    num_raising: int = 0
    """Trials that ran out of memory where the peaks alone let them fit: the law is held up to what they exceed."""

    def peak_bytes(self, padded_pixels: float) -> float:
        """Return the peak in bytes that the law gives to a micro-batch of so many padded pixels."""
        return self.bytes_fixed + self.bytes_per_pixel * padded_pixels

    def largest_micro_batch(self, *, memory_bytes: float, pixels_per_example: float) -> int:
        """Return how many examples of a canvas fit into some memory; 0 where not even one does."""
        if self.bytes_per_pixel <= 0:
            raise ValueError("a law without a cost per pixel bounds no micro-batch")
        room = memory_bytes - self.bytes_fixed
        return max(0, int(room / (self.bytes_per_pixel * pixels_per_example)))


def fit_memory_law(points: Sequence[PeakPoint], *, censored: Sequence[CensoredPoint] = ()) -> MemoryLaw | None:
    """Return the law of least squares of relative residuals, both terms at least 0; None below two different sizes.

    A censored point counts, with what it exceeds as its peak, where the law would lie below that, and not otherwise.
    Residuals and errors are those of ``points``.
    """
    pixels = sorted({point.padded_pixels for point in points})
    if len(pixels) < 2:
        return None
    raising = _raising(points, censored)
    fixed, per_pixel = _fit([*points, *raising])
    residuals = [abs(point.peak_bytes / (fixed + per_pixel * point.padded_pixels) - 1) for point in points]
    errors = _leave_one_out_errors(points, pixels, censored) if len(pixels) >= MIN_SIZES else []
    return MemoryLaw(
        bytes_fixed=fixed,
        bytes_per_pixel=per_pixel,
        smallest_pixels=pixels[0],
        largest_pixels=pixels[-1],
        largest_residual=max(residuals),
        loo_error_median=statistics.median(errors) if errors else None,
        loo_error_max=max(errors) if errors else None,
        num_raising=len(raising),
    )


def fits_right_ratio(points: Sequence[PeakPoint], *, margins: Sequence[float] = NEAR_LIMIT) -> float | None:
    """Return how often a law fitted without a size is right on whether that fits a memory near its peak.

    For every point and margin the memory is the peak less and plus that share of it. None below MIN_SIZES sizes.
    """
    pixels = sorted({point.padded_pixels for point in points})
    if len(pixels) < MIN_SIZES:
        return None
    answers = []
    for point in points:
        fixed, per_pixel = _fit([other for other in points if other.padded_pixels != point.padded_pixels])
        forecast = fixed + per_pixel * point.padded_pixels
        for margin in margins:
            answers.append(forecast > (1 - margin) * point.peak_bytes)
            answers.append(forecast <= (1 + margin) * point.peak_bytes)
    return statistics.fmean(answers)


def _raising(points: Sequence[PeakPoint], censored: Sequence[CensoredPoint]) -> list[PeakPoint]:
    """Return the censored points above the law, as points at what they exceed."""
    raising: list[PeakPoint] = []
    for _ in range(MAX_ROUNDS):
        fixed, per_pixel = _fit([*points, *raising])
        above = [
            PeakPoint(padded_pixels=one.padded_pixels, peak_bytes=one.more_than_bytes)
            for one in censored
            if fixed + per_pixel * one.padded_pixels <= one.more_than_bytes
        ]
        if above == raising:
            break
        raising = above
    return raising


def _fit(points: Sequence[PeakPoint]) -> tuple[float, float]:
    pixels = np.array([point.padded_pixels for point in points], dtype=np.float64)
    peaks = np.array([point.peak_bytes for point in points], dtype=np.float64)
    # Each row divided by its peak makes the residuals relative; pixels in units of the largest keep both terms alike.
    scale = pixels.max()
    rows = np.stack([np.ones_like(pixels), pixels / scale], axis=1) / peaks[:, np.newaxis]
    # In units of the largest peak, so that the solver works with numbers near one.
    (fixed, slope), _ = nnls(rows * peaks.max(), np.ones_like(peaks))
    return float(fixed * peaks.max()), float(slope * peaks.max() / scale)


def _leave_one_out_errors(
    points: Sequence[PeakPoint], pixels: Sequence[int], censored: Sequence[CensoredPoint]
) -> list[float]:
    errors = []
    for left_out in pixels:
        others = [point for point in points if point.padded_pixels != left_out]
        fixed, per_pixel = _fit([*others, *_raising(others, censored)])
        peaks = [point.peak_bytes for point in points if point.padded_pixels == left_out]
        errors.append(abs((fixed + per_pixel * left_out) / statistics.fmean(peaks) - 1))
    return errors
