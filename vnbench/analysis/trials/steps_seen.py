"""Estimate the noise of steps within a process from steps that were repeated.

A step is repeated if another epoch, or another process of the same spec, ran it again. Steps on different canvases are
not repetitions: a different cost per pixel is not noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.means import correlated_ratio_of_sums
from vnbench.analysis.trials.process import training_figures
from vnbench.analysis.trials.steps import steps_of
from vnbench.records.record import TrialRecord
from vnbench.records.values.once import once_per_object

SHAPE = ("num_examples", "valid_pixels", "padded_pixels", "canvas_height", "canvas_width")
"""Columns that are equal for two steps on the same examples and canvases."""

Shapes = tuple[tuple[int, ...], ...]
"""Values of the SHAPE columns, for every step of an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenProcess:
    """The measurements of one process of a training spec."""

    time: Estimate
    """Seconds per valid pixel; its error treats steps as draws, so it includes differences between canvases."""
    shapes: Shapes = ()
    """Shapes of the steps of one epoch; empty if a step has no valid time or epochs differ."""
    epochs_s: tuple[tuple[float, ...], ...] = ()
    """Seconds of each step, epoch by epoch; empty if ``shapes`` is empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepNoise:
    """The noise of repeated steps within a process."""

    relative: float
    """Relative standard deviation of the time of one step."""
    degrees_of_freedom: float
    """Degrees of freedom of ``relative``."""


@once_per_object
def seen_process(record: TrialRecord) -> SeenProcess | None:
    """Return the measurements of a training trial; None if its times are not valid."""
    figures = training_figures(record)
    if figures is None or figures.valid_time is None:
        return None
    bare = SeenProcess(time=figures.valid_time)
    steps = steps_of(record)
    if len(steps.counted) < len(steps.measured) or not (steps.measured["step_time_s"] > 0).all():
        return bare
    epochs = steps.measured.by_block
    shapes = [tuple(epoch.rows(*SHAPE)) for epoch in epochs]
    if any(other != shapes[0] for other in shapes[1:]):
        return bare
    epochs_s = tuple(tuple(epoch["step_time_s"].tolist()) for epoch in epochs)
    return SeenProcess(time=figures.valid_time, shapes=shapes[0], epochs_s=epochs_s)


def mean_steps_s(processes: Sequence[SeenProcess]) -> tuple[float, ...]:
    """Return the mean seconds of each step of an epoch: over epochs, then over processes, all of the same shapes."""
    by_process = [[fmean(times) for times in zip(*one.epochs_s, strict=True)] for one in processes]
    return tuple(fmean(times) for times in zip(*by_process, strict=True))


def equal_steps(shapes: Shapes) -> float:
    """Return the effective number of equal steps in an epoch; the epoch's relative noise falls with its square root.

    It is (sum x)^2 / sum x^2 over the padded pixels x of the steps, if each step's noise is proportional to x.
    """
    pixels = [float(shape[SHAPE.index("padded_pixels")]) for shape in shapes]
    return math.fsum(pixels) ** 2 / math.fsum(value * value for value in pixels)


def step_noise(processes: Sequence[SeenProcess]) -> StepNoise | None:
    """Return the noise of the steps of one spec; None if no step was repeated or the shapes of epochs differ.

    The times of each process are first divided by its level, so that differences between whole processes do not count.
    The residual of a step is its difference from its mean over all epochs and processes. If residuals of consecutive
    steps are correlated, groups of steps are used (statistics.means.correlated_ratio_of_sums). The mean of each step,
    and the level of each process except one, cost a degree of freedom.
    """
    shapes = processes[0].shapes if processes else ()
    if not shapes or any(one.shapes != shapes for one in processes):
        return None
    num_steps, num_epochs = len(shapes), sum(len(one.epochs_s) for one in processes)
    num_observations = num_steps * num_epochs
    freedom = num_observations - num_steps - (len(processes) - 1)
    if freedom <= 0:
        return None
    levelled: list[list[float]] = []
    for one in processes:
        level = fmean(sum(epoch) for epoch in one.epochs_s)
        levelled += [[seconds / level for seconds in epoch] for epoch in one.epochs_s]
    expected = [fmean(times) for times in zip(*levelled, strict=True)]
    estimate = correlated_ratio_of_sums([share for epoch in levelled for share in epoch], expected * num_epochs)
    assert estimate.se is not None
    uneven = equal_steps(shapes)
    # The standard error is that of the mean over all epochs, and counts only one degree of freedom for all means.
    square = estimate.se**2 * num_epochs * uneven * (num_observations - 1) / freedom
    groups = (estimate.dof + 1) / num_observations
    # Large steps weigh most, so the sum has fewer degrees of freedom (Satterthwaite).
    return StepNoise(relative=math.sqrt(square), degrees_of_freedom=max(1.0, freedom * groups * uneven / num_steps))


def pooled_noise(parts: Sequence[StepNoise]) -> StepNoise | None:
    """Return the noise over several specs, weighted by degrees of freedom; None without specs."""
    total = math.fsum(part.degrees_of_freedom for part in parts)
    if not parts:
        return None
    square = math.fsum(part.degrees_of_freedom * part.relative**2 for part in parts) / total
    return StepNoise(relative=math.sqrt(square), degrees_of_freedom=total)
