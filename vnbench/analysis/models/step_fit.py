"""Fit a step model with its errors, and forecast with intervals.

A forecast for a new size in a new process has three errors: of the coefficients, of the size (libraries choose other
kernels for other shapes), and of the process. The first two follow from the residuals of the means at each size, with
(sizes - coefficients) degrees of freedom. The third is the observed spread between processes
(analysis.statistics.process_spread). What steps explain is not subtracted from it: the difference of two uncertain
numbers is often 0, which would claim that every process takes the same time. Single steps show almost none of these
errors: intervals from resampled steps hold the truth one time in ten.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vnbench.analysis.models.step_model import (
    Form,
    LeftOut,
    StepModel,
    StepPoint,
    Vector,
    choose_form,
    fit_step_model,
    leave_one_size_out,
    sizes_of,
    straight_line,
)
from vnbench.analysis.statistics.estimate import Estimate, sum_of_variances
from vnbench.analysis.statistics.process_spread import Spread

CONFIDENCE = 0.9
"""Two-sided coverage of the intervals of forecasts: from the 5th to the 95th percentile."""

ROUGH_SIZE_ERROR = 0.1
"""Assumed relative error of a size if too few sizes were timed: steps on other canvases were 2 to 22 % off a line
through them."""

ROUGH_DEGREES_OF_FREEDOM = 4

ASSUMED_BETWEEN = 0.03
"""Assumed relative standard deviation between processes if none was measured: 3 to 5 % are common between runs of one
program on one GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastParts:
    """The forecast of several steps together, with its errors by source as relative standard deviations."""

    total_s: float
    """Forecast in seconds."""
    coefficients: float
    """Error from the coefficients of the curve."""
    sizes: float
    """Error from the size of each step."""
    processes: float
    """Error from the new process and from the processes that the curve was fitted to."""
    dof: float
    """Degrees of freedom of ``coefficients`` and ``sizes``; infinite if there are plenty or the errors are unknown."""
    processes_dof: float
    """Degrees of freedom of ``processes``; infinite if there are plenty or the spread was assumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFit:
    """A fitted step model with its errors."""

    model: StepModel
    """The curve."""
    left_out: tuple[LeftOut, ...]
    """Leave-one-out error at each size; empty with too few sizes."""
    num_sizes: int
    """Number of different sizes."""
    num_processes: int
    """Number of processes that measured them."""
    size_error: float | None
    """Relative standard deviation of the mean at a size about the curve; None without degrees of freedom."""
    degrees_of_freedom: int
    """Number of sizes minus number of coefficients that are not zero."""
    covariance: tuple[tuple[float, ...], ...]
    """Covariance of the coefficients, from size_error; zeros without it."""
    between: float
    """Observed relative standard deviation between processes."""
    between_degrees_of_freedom: float | None
    """Degrees of freedom of ``between``; None if it was assumed, not measured."""

    @property
    def loo_error_median(self) -> float | None:
        """Median absolute leave-one-out error; None with too few sizes."""
        return statistics.median(abs(one.error) for one in self.left_out) if self.left_out else None

    @property
    def loo_error_max(self) -> float | None:
        """Largest absolute leave-one-out error; None with too few sizes."""
        return max((abs(one.error) for one in self.left_out), default=None)

    @property
    def is_between_measured(self) -> bool:
        """Whether the spread between processes was measured."""
        return self.between_degrees_of_freedom is not None

    def overhead_ratio(self, padded_pixels: float) -> float:
        """Return the share of a step's time that does not depend on its canvas."""
        return self.model.overhead_s / self.model.time_s(padded_pixels)

    def forecast(self, padded_pixels: Sequence[float], *, less_s: float = 0.0) -> Estimate:
        """Return the total seconds of steps of these sizes in one new process.

        The error of a size is the same for all steps of that size, and independent between sizes. ``less_s`` seconds
        are subtracted, for example for updates that accumulation saves. Outside the measured sizes the error is too
        small by an unknown amount.

        Raises:
            ValueError: there are no steps.
        """
        if not padded_pixels:
            raise ValueError("a forecast needs at least one step")
        parts = self.forecast_parts(*np.unique(np.array(padded_pixels, dtype=np.float64), return_counts=True))
        if self.size_error is None:
            return Estimate(value=parts.total_s - less_s)
        measured = parts.coefficients**2 + parts.sizes**2
        variance, dof = sum_of_variances([(measured, parts.dof), (parts.processes**2, parts.processes_dof)])
        return Estimate(value=parts.total_s - less_s, se=math.sqrt(variance) * parts.total_s, dof=dof)

    def forecast_parts(self, padded_pixels_C: Vector, counts_C: NDArray[np.int64]) -> ForecastParts:
        """Return the forecast of ``counts_C`` steps of each size in one new process, with its errors by source.

        Without degrees of freedom, the errors of coefficients and sizes are 0, which means unknown.
        """
        basis = self.model.basis(padded_pixels_C)
        times = basis @ np.array(self.model.coefficients)
        total = float(counts_C @ times)
        weights: Vector = counts_C @ basis
        return ForecastParts(
            total_s=total,
            coefficients=math.sqrt(max(0.0, float(weights @ np.array(self.covariance) @ weights))) / total,
            sizes=(self.size_error or 0.0) * math.sqrt(float(((counts_C * times) ** 2).sum())) / total,
            # The processes behind the curve may all have been fast, so their mean has an error too.
            processes=self.between * math.sqrt(1 + 1 / self.num_processes),
            dof=self.degrees_of_freedom or math.inf,
            processes_dof=self.between_degrees_of_freedom or math.inf,
        )


def fit_steps(points: Sequence[StepPoint], *, spread: Spread | None, form: Form | None = None) -> StepFit:
    """Return the fit of the points, with the given form or the simplest that they support.

    ``spread`` is the spread between processes; if it is None, ASSUMED_BETWEEN is used.

    Raises:
        ValueError: there are too few sizes for the form.
    """
    chosen = choose_form(points) if form is None else form
    model = fit_step_model(points, chosen)
    by_size: dict[float, list[float]] = {size: [] for size in sizes_of(points)}
    for point in points:
        by_size[point.padded_pixels].append(point.step_time_s)
    sizes, times_N = list(by_size), np.array([statistics.fmean(times) for times in by_size.values()])
    basis = model.basis(np.array(sizes))
    active = [index for index, value in enumerate(model.coefficients) if value > 0]
    freedom = len(sizes) - len(active)
    covariance = np.zeros((len(model.coefficients),) * 2)
    size_error = None
    if freedom > 0:
        residuals_N = basis @ np.array(model.coefficients) / times_N - 1
        size_error = math.sqrt(float((residuals_N**2).sum()) / freedom)
        rows = (basis / times_N[:, np.newaxis])[:, active]
        scales = np.abs(rows).max(axis=0)
        inverse = np.linalg.pinv((rows / scales).T @ (rows / scales)) / np.outer(scales, scales)
        covariance[np.ix_(active, active)] = size_error**2 * inverse
    return StepFit(
        model=model,
        left_out=leave_one_size_out(points, chosen),
        num_sizes=len(sizes),
        num_processes=len({point.process for point in points}),
        size_error=size_error,
        degrees_of_freedom=freedom,
        covariance=tuple(map(tuple, covariance.tolist())),
        between=ASSUMED_BETWEEN if spread is None else spread.relative,
        between_degrees_of_freedom=None if spread is None else float(spread.degrees_of_freedom),
    )


def fit_roughly(points: Sequence[StepPoint], *, spread: Spread | None) -> StepFit:
    """Return a line through two sizes, or proportionality to pixels for one size, with assumed errors.

    Raises:
        ValueError: there are no points.
    """
    model = straight_line(points)
    return StepFit(
        model=model,
        left_out=(),
        num_sizes=len(sizes_of(points)),
        num_processes=len({point.process for point in points}),
        size_error=ROUGH_SIZE_ERROR,
        degrees_of_freedom=ROUGH_DEGREES_OF_FREEDOM,
        # The slope, and so every time, is off by this much.
        covariance=((0.0, 0.0), (0.0, (ROUGH_SIZE_ERROR * model.coefficients[1]) ** 2)),
        between=ASSUMED_BETWEEN if spread is None else spread.relative,
        between_degrees_of_freedom=None if spread is None else float(spread.degrees_of_freedom),
    )
