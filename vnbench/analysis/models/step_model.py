"""Model the seconds of a step as a function of its padded pixels, with the simplest curve that the data support.

Every curve is fitted by least squares of relative residuals with non-negative terms (scipy.optimize.nnls; Ernest, NSDI
2016, fits run times this way). Each point is divided by its time, so small canvases count as much as large ones. Points
of one size are summed into one row, which has the same minimum: a file may hold hundreds of processes of each size.

At a fixed micro-batch B, the attention term, B x tokens^2, is proportional to the square of the padded pixels, so the
quadratic curve includes it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Form = Literal["constant", "linear", "quadratic", "hinge"]

Vector = NDArray[np.float64]

MIN_SIZES: dict[Form, int] = {"constant": 1, "linear": 2, "quadratic": 4, "hinge": 5}
"""Fewest different sizes for each form: one more than its terms, and for a hinge two on either side."""

MAX_HINGES = 12
"""Most places at which a hinge is tried: the steps of a training may have dozens of sizes."""

BEND_SIGNIFICANCE = 2.0
"""Standard errors by which a curve's squared leave-one-out errors must be below the line's for the curve to win."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPoint:
    """The mean step time of one canvas in one process."""

    padded_pixels: float
    """Padded pixels of the step: examples x canvas."""
    step_time_s: float
    """Mean seconds per step."""
    process: int
    """Number of the process, from 0; the points of one process share its deviation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepModel:
    """A model of step time: overhead + cost x padded pixels, with or without a bend."""

    form: Form
    """Form of the curve."""
    coefficients: tuple[float, ...]
    """Coefficients of the basis, in seconds: overhead; per pixel (below a hinge); per squared pixel, or per pixel above
    the hinge."""
    hinge_pixels: float | None
    """Padded pixels at which the slope changes; None without a hinge."""
    smallest_pixels: float
    """Fewest padded pixels of a point; below this the model extrapolates."""
    largest_pixels: float
    """Most padded pixels of a point; above this the model extrapolates."""

    @property
    def overhead_s(self) -> float:
        """Seconds that do not depend on the canvas."""
        return self.coefficients[0]

    @property
    def s_per_pixel(self) -> float:
        """Seconds per further padded pixel; in the middle of the range if the slope is not constant."""
        middle = (self.smallest_pixels + self.largest_pixels) / 2
        step = (self.largest_pixels - self.smallest_pixels) / 100
        if self.form == "constant":
            return 0.0
        if self.form == "linear":
            return self.coefficients[1]
        return (self.time_s(middle + step) - self.time_s(middle - step)) / (2 * step)

    def time_s(self, padded_pixels: float) -> float:
        """Return the seconds of a step with this number of padded pixels, inside the range or not."""
        return float((self.basis(np.array([padded_pixels])) @ np.array(self.coefficients))[0])

    def is_extrapolated(self, padded_pixels: float) -> bool:
        """Return whether a size lies outside the sizes that the model was fitted to."""
        return not self.smallest_pixels <= padded_pixels <= self.largest_pixels

    def basis(self, pixels_N: Vector) -> Vector:
        """Return the terms of the form at each size, shape (N, number of coefficients)."""
        return _basis(pixels_N, self.form, self.hinge_pixels)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """The error of a model at a size that it was fitted without."""

    padded_pixels: float
    """The size."""
    error: float
    """Relative error: forecast / measured mean - 1."""


def fit_step_model(points: Sequence[StepPoint], form: Form) -> StepModel:
    """Return the curve of this form that fits the points best.

    Raises:
        ValueError: there are fewer different sizes than MIN_SIZES of the form.
    """
    return _fit(_rows(points), form)


def straight_line(points: Sequence[StepPoint]) -> StepModel:
    """Return the line through some points; where all are of one size, time in proportion to its pixels.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("no points have no line")
    sizes = sizes_of(points)
    if len(sizes) > 1:
        return fit_step_model(points, "linear")
    return StepModel(
        form="linear",
        coefficients=(0.0, statistics.fmean(point.step_time_s / point.padded_pixels for point in points)),
        hinge_pixels=None,
        smallest_pixels=sizes[0],
        largest_pixels=sizes[0],
    )


def leave_one_size_out(points: Sequence[StepPoint], form: Form) -> tuple[LeftOut, ...]:
    """Return the error at each size of the curve fitted to all other sizes; empty if there are too few.

    The hinge is chosen again each time. The smallest and largest size are left out too, so their forecasts extrapolate.
    """
    rows = _rows(points)
    if len(rows.pixels_S) <= MIN_SIZES[form]:
        return ()
    errors = []
    for place, (size, mean_s) in enumerate(zip(rows.pixels_S.tolist(), rows.means_S.tolist(), strict=True)):
        others = _Rows(*(np.delete(column_S, place) for column_S in rows))
        errors.append(LeftOut(padded_pixels=size, error=_fit(others, form).time_s(size) / mean_s - 1))
    return tuple(errors)


def choose_form(points: Sequence[StepPoint]) -> Form:
    """Return the simplest form that the data support: a bend only if its leave-one-out errors are clearly smaller.

    Its squared errors must be below the line's by BEND_SIGNIFICANCE standard errors of the paired differences. R
    squared at the fitted points would not help: it is near 1 for every form.
    """
    best: Form = "linear"
    line = leave_one_size_out(points, "linear")
    least = math.inf
    for form in ("quadratic", "hinge"):
        curve = leave_one_size_out(points, form)
        if not line or not curve:
            continue
        gains = [a.error**2 - b.error**2 for a, b in zip(line, curve, strict=True)]
        noise = statistics.stdev(gains) / math.sqrt(len(gains))
        squares = statistics.fmean(one.error**2 for one in curve)
        if statistics.fmean(gains) > BEND_SIGNIFICANCE * noise and squares < least:
            best, least = form, squares
    return best


def sizes_of(points: Sequence[StepPoint]) -> list[float]:
    """Return the different sizes of the points, ascending."""
    return sorted({point.padded_pixels for point in points})


def _basis(pixels_N: Vector, form: Form, hinge: float | None) -> Vector:
    ones_N = np.ones_like(pixels_N)
    if form == "constant":
        return ones_N[:, np.newaxis]
    if form == "linear":
        return np.stack([ones_N, pixels_N], axis=1)
    if form == "quadratic":
        return np.stack([ones_N, pixels_N, pixels_N**2], axis=1)
    assert hinge is not None
    return np.stack([ones_N, np.minimum(pixels_N, hinge), np.maximum(pixels_N - hinge, 0.0)], axis=1)


class _Rows(NamedTuple):
    """All that a fit asks of points: a row for each of S sizes, whose basis is divided by ``scales_S``."""

    pixels_S: Vector
    """Different sizes, ascending."""
    means_S: Vector
    """Mean of the times."""
    scales_S: Vector
    """One over the root of the sum of 1 / time^2."""
    targets_S: Vector
    """What a curve should give over ``scales_S``: the sum of 1 / time, times ``scales_S``."""


def _rows(points: Sequence[StepPoint]) -> _Rows:
    pixels_N = np.array([point.padded_pixels for point in points], dtype=np.float64)
    times_N = np.array([point.step_time_s for point in points], dtype=np.float64)
    pixels_S, place_N, count_S = np.unique(pixels_N, return_inverse=True, return_counts=True)
    means_S = np.bincount(place_N, times_N) / count_S
    # Over the mean, so that a single time is its own scale, and its target 1, without rounding.
    shares_N = means_S[place_N] / times_N
    root_S = np.sqrt(np.bincount(place_N, shares_N**2))
    return _Rows(pixels_S, means_S, means_S / root_S, np.bincount(place_N, shares_N) / root_S)


def _fit(rows: _Rows, form: Form) -> StepModel:
    sizes: list[float] = rows.pixels_S.tolist()
    if len(sizes) < MIN_SIZES[form]:
        raise ValueError(f"{len(sizes)} sizes are too few for a {form} model, which needs {MIN_SIZES[form]}")
    hinges = _hinges(sizes) if form == "hinge" else [None]
    fits = [(_solve(rows, form, hinge), hinge) for hinge in hinges]
    (coefficients, _), hinge = min(fits, key=lambda fit: fit[0][1])
    return StepModel(
        form=form,
        coefficients=tuple(coefficients.tolist()),
        hinge_pixels=hinge,
        smallest_pixels=sizes[0],
        largest_pixels=sizes[-1],
    )


def _hinges(sizes: Sequence[float]) -> Sequence[float | None]:
    """Return the sizes at which a hinge is tried: at most MAX_HINGES of those between the ends."""
    inner = sizes[1:-1]
    step = max(1, -(-len(inner) // MAX_HINGES))
    return inner[step // 2 :: step]


def _solve(rows: _Rows, form: Form, hinge: float | None) -> tuple[Vector, float]:
    """Return the coefficients, and the root of the sum of squared residuals of the rows."""
    divided = _basis(rows.pixels_S, form, hinge) / rows.scales_S[:, np.newaxis]
    # Columns are scaled so that the solver works with numbers near one.
    scales = np.abs(divided).max(axis=0)
    coefficients, residual = nnls(divided / scales, rows.targets_S)
    return coefficients / scales, float(residual)
