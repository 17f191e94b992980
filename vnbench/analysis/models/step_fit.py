"""A step model with its errors: at sizes left out, between processes, and the intervals that follow from both.

A forecast of a size that was not measured, in a process that was not measured, is off by three things: the
coefficients, what is particular to a size (libraries choose other kernels for other shapes), and what is particular to
a process. The first two follow from the residuals of the sizes' means, on sizes less coefficients degrees of freedom;
the third is the spread between processes (analysis.statistics.process_spread). Steps as such say next to nothing:
resampling them gives intervals that hold one time in ten.
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
)
from vnbench.analysis.statistics.estimate import Estimate, sum_of_variances
from vnbench.analysis.statistics.process_spread import Spread

CONFIDENCE = 0.9
"""Of the intervals of forecasts: from the 5th to the 95th percentile."""

ROUGH_SIZE_ERROR = 0.1
"""What a size is taken to be off by where too few were timed to tell: steps of other canvases were seen to be off by 2
to 22 % of a line through them."""

ROUGH_DEGREES_OF_FREEDOM = 4

ASSUMED_BETWEEN = 0.03
"""Relative standard deviation between processes that is taken where none was measured: 3 to 5 % are common between
runs of one program on one GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastParts:
    """Seconds of some steps together, and what they may be off by, part by part: standard deviations, relative."""

    total_s: float
    """The forecast."""
    coefficients: float
    """Of the curve's coefficients."""
    sizes: float
    """Of what is particular to each size."""
    processes: float
    """Of what is particular to the process, the curve's own processes included."""
    dof: float
    """Degrees of freedom of coefficients and sizes; infinite for plenty, and where their errors are not known."""
    processes_dof: float
    """Of processes; infinite for plenty, and where it was not measured but assumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFit:
    """A fitted step model, and how far it can be believed."""

    model: StepModel
    """The curve."""
    left_out: tuple[LeftOut, ...]
    """Its error at each size when fitted without it; empty with too few sizes."""
    num_sizes: int
    """Different sizes."""
    num_processes: int
    """Processes that measured them."""
    size_error: float | None
    """Standard deviation of a size's mean about the curve, relative; None without degrees of freedom."""
    degrees_of_freedom: int
    """Sizes less coefficients that are not zero."""
    covariance: tuple[tuple[float, ...], ...]
    """Of the coefficients, from size_error; zeros without it."""
    between: float
    """Standard deviation between processes, relative."""
    between_degrees_of_freedom: float | None
    """On how much it rests; None where it was not measured but assumed."""

    @property
    def loo_error_median(self) -> float | None:
        """Median size of the errors at sizes left out."""
        return statistics.median(abs(one.error) for one in self.left_out) if self.left_out else None

    @property
    def loo_error_max(self) -> float | None:
        """Largest of them."""
        return max((abs(one.error) for one in self.left_out), default=None)

    @property
    def is_between_measured(self) -> bool:
        """Whether the spread between processes was measured."""
        return self.between_degrees_of_freedom is not None

    def overhead_ratio(self, padded_pixels: float) -> float:
        """Return the share of a step that does not depend on its canvas."""
        return self.model.overhead_s / self.model.time_s(padded_pixels)

    def forecast(self, padded_pixels: Sequence[float], *, less_s: float = 0.0) -> Estimate:
        """Return the seconds of steps of these sizes together, run in one further process.

        What is particular to a size is the same for all steps of it, and independent between sizes. ``less_s`` seconds
        are taken off, as for updates that accumulated passes do without. Outside of the sizes measured the error is too
        small by an unknown amount.

        Raises:
            ValueError: no steps.
        """
        if not padded_pixels:
            raise ValueError("no steps take no time")
        parts = self.forecast_parts(*np.unique(np.array(padded_pixels, dtype=np.float64), return_counts=True))
        if self.size_error is None:
            return Estimate(value=parts.total_s - less_s)
        measured = parts.coefficients**2 + parts.sizes**2
        variance, dof = sum_of_variances([(measured, parts.dof), (parts.processes**2, parts.processes_dof)])
        return Estimate(value=parts.total_s - less_s, se=math.sqrt(variance) * parts.total_s, dof=dof)

    def forecast_parts(self, padded_pixels_C: Vector, counts_C: NDArray[np.int64]) -> ForecastParts:
        """Return the seconds of so many steps of each size in one further process, with their errors part by part.

        Without degrees of freedom the errors of coefficients and sizes are 0, which says that they are not known.
        """
        basis = self.model.basis(padded_pixels_C)
        times = basis @ np.array(self.model.coefficients)
        total = float(counts_C @ times)
        weights: Vector = counts_C @ basis
        return ForecastParts(
            total_s=total,
            coefficients=math.sqrt(max(0.0, float(weights @ np.array(self.covariance) @ weights))) / total,
            sizes=(self.size_error or 0.0) * math.sqrt(float(((counts_C * times) ** 2).sum())) / total,
            # The curve rests on processes that may all have been fast; the next one is off by as much again.
            processes=self.between * math.sqrt(1 + 1 / self.num_processes),
            dof=self.degrees_of_freedom or math.inf,
            processes_dof=self.between_degrees_of_freedom or math.inf,
        )


def fit_steps(points: Sequence[StepPoint], *, spread: Spread | None, form: Form | None = None) -> StepFit:
    """Return the fit of some points, with the form that they bear unless one is given.

    ``spread`` is that between processes; without it ASSUMED_BETWEEN is taken.

    Raises:
        ValueError: too few sizes for the form.
    """
    chosen = choose_form(points) if form is None else form
    model = fit_step_model(points, chosen)
    sizes = sizes_of(points)
    means = [statistics.fmean(p.step_time_s for p in points if p.padded_pixels == size) for size in sizes]
    times_N, basis = np.array(means), model.basis(np.array(sizes))
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
        between=ASSUMED_BETWEEN if spread is None else spread.relative_between,
        between_degrees_of_freedom=None if spread is None else float(spread.degrees_of_freedom),
    )


def fit_roughly(points: Sequence[StepPoint], *, spread: Spread | None) -> StepFit:
    """Return a line through two sizes, or time in proportion to the pixels of one, with errors that are assumed.

    Raises:
        ValueError: no points.
    """
    if not points:
        raise ValueError("no points have no fit")
    sizes = sizes_of(points)
    model = (
        fit_step_model(points, "linear")
        if len(sizes) > 1
        else StepModel(
            form="linear",
            coefficients=(0.0, statistics.fmean(point.step_time_s / point.padded_pixels for point in points)),
            hinge_pixels=None,
            smallest_pixels=sizes[0],
            largest_pixels=sizes[0],
        )
    )
    return StepFit(
        model=model,
        left_out=(),
        num_sizes=len(sizes),
        num_processes=len({point.process for point in points}),
        size_error=ROUGH_SIZE_ERROR,
        degrees_of_freedom=ROUGH_DEGREES_OF_FREEDOM,
        # The slope, and with it every time, is off by as much.
        covariance=((0.0, 0.0), (0.0, (ROUGH_SIZE_ERROR * model.coefficients[1]) ** 2)),
        between=ASSUMED_BETWEEN if spread is None else spread.relative_between,
        between_degrees_of_freedom=None if spread is None else float(spread.degrees_of_freedom),
    )
