"""Fit the law of worst-case memory: a fixed part, plus bytes per padded pixel of the micro-batch.

The law is fitted to the peaks of trials that differ only in padded pixels. Activations of a convolutional network are
proportional to the pixels; the rest (parameters, optimizer state, workspaces of fixed size) is the fixed part. A trial
that ran out of memory has no peak, but shows that its peak would have exceeded the available memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

CARD_SIZES_GIB = (16, 24, 40, 48, 80, 141)
"""Nominal memory of common cards, in GiB."""

USABLE = 0.9
"""Share of a card's memory that a configuration may use to fit with margin. The rest is for fragmentation at changing
widths, for other programs and for the driver."""

MIN_SIZES = 3
"""Fewest different padded sizes for leave-one-out errors."""

NEAR_LIMIT = (0.01, 0.02, 0.05)
"""Relative distances between a peak and a memory limit at which the law is tested."""

MAX_ROUNDS = 10
"""Most fits that choose the censored points; after that, a point that still alternates makes no difference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakPoint:
    """One measured peak."""

    padded_pixels: int
    """Padded pixels of the micro-batch: examples x canvas."""
    peak_bytes: int
    """Peak in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CensoredPoint:
    """A lower bound on a peak, from a trial that ran out of memory."""

    padded_pixels: int
    """Padded pixels of the micro-batch: examples x canvas."""
    more_than_bytes: int
    """Bytes that the peak would exceed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLaw:
    """The law: peak = bytes_fixed + bytes_per_pixel x padded pixels."""

    bytes_fixed: float
    """Bytes that do not depend on the micro-batch."""
    bytes_per_pixel: float
    """Bytes per padded pixel."""
    smallest_pixels: int
    """Fewest padded pixels of a point; below this the law extrapolates."""
    largest_pixels: int
    """Most padded pixels of a point; above this the law extrapolates."""
    largest_residual: float
    """Largest relative difference of a point from the law."""
    loo_error_median: float | None
    """Median relative leave-one-out error over the sizes; None with fewer than MIN_SIZES sizes."""
    loo_error_max: float | None
    """Largest relative leave-one-out error; None with fewer than MIN_SIZES sizes."""
    num_raising: int = 0
    """Number of trials out of memory that raise the law: by the measured peaks alone they would have fitted."""

    def peak_bytes(self, padded_pixels: float) -> float:
        """Return the peak in bytes of a micro-batch with this number of padded pixels."""
        return self.bytes_fixed + self.bytes_per_pixel * padded_pixels

    def largest_micro_batch(self, *, memory_bytes: float, pixels_per_example: float) -> int:
        """Return how many examples of a canvas fit into the memory; 0 if none fits.

        Raises:
            ValueError: bytes_per_pixel is 0, so that any number fits.
        """
        if self.bytes_per_pixel <= 0:
            raise ValueError("a law with 0 bytes per pixel does not limit the micro-batch")
        room = memory_bytes - self.bytes_fixed
        return max(0, int(room / (self.bytes_per_pixel * pixels_per_example)))


def fit_memory_law(points: Sequence[PeakPoint], *, censored: Sequence[CensoredPoint] = ()) -> MemoryLaw | None:
    """Return the law with the least squares of relative residuals, both terms at least 0; None below two sizes.

    A censored point counts only if the law would lie below its bound; its bound then counts as its peak. Residuals and
    errors are those of ``points``.
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
    """Return how often a law fitted without a size correctly tells whether that size fits a memory near its peak.

    The memory is the peak of each point, minus and plus each of ``margins`` as a share of it. None with fewer than
    MIN_SIZES sizes.
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
    """Return the censored points that lie above the law, with their bounds as peaks."""
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
    # Dividing each row by its peak makes residuals relative; dividing pixels by the largest scales both terms alike.
    scale = pixels.max()
    rows = np.stack([np.ones_like(pixels), pixels / scale], axis=1) / peaks[:, np.newaxis]
    # Peaks in units of the largest keep the solver's numbers near one.
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
