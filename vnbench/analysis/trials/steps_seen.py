"""The measured steps of processes, epoch after epoch, and what their repetitions say of the noise within a process.

Steps on different canvases are no repetition: that a large image costs more per pixel is no noise. A step is repeated
where another epoch or another process of the same spec made it again.
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
"""Columns in which two steps agree that trained on the same examples in the same canvases."""

Shapes = tuple[tuple[int, ...], ...]
"""SHAPE of every step of an epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenProcess:
    """What one process of a training spec measured."""

    time: Estimate
    """Seconds per valid pixel; its error takes the steps as draws, canvases of different cost included."""
    shapes: Shapes = ()
    """Of the steps of one epoch; empty where some step has no time that counts, or epochs differ."""
    epochs_s: tuple[tuple[float, ...], ...] = ()
    """Seconds of each step, epoch by epoch; empty with ``shapes``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepNoise:
    """How far steps on the same examples differ within a process."""

    relative: float
    """Standard deviation of one step's time, relative to it."""
    degrees_of_freedom: float
    """On how much ``relative`` rests."""


@once_per_object
def seen_process(record: TrialRecord) -> SeenProcess | None:
    """Return what a training trial measured; None where its times are not to be used."""
    figures = training_figures(record)
    if figures is None or figures.valid_time is None:
        return None
    bare = SeenProcess(time=figures.valid_time)
    steps = steps_of(record)
    if steps.num_skipped or not (steps.measured["step_time_s"] > 0).all():
        return bare
    epochs = steps.measured.by_block
    shapes = [tuple(epoch.rows(*SHAPE)) for epoch in epochs]
    if any(other != shapes[0] for other in shapes[1:]):
        return bare
    epochs_s = tuple(tuple(epoch["step_time_s"].tolist()) for epoch in epochs)
    return SeenProcess(time=figures.valid_time, shapes=shapes[0], epochs_s=epochs_s)


def mean_steps_s(processes: Sequence[SeenProcess]) -> tuple[float, ...]:
    """Return the mean seconds of each step of an epoch, over epochs, then over processes that have the same shapes."""
    by_process = [[fmean(times) for times in zip(*one.epochs_s, strict=True)] for one in processes]
    return tuple(fmean(times) for times in zip(*by_process, strict=True))


def equal_steps(shapes: Shapes) -> float:
    """Return how many steps of equal size are as uneven as an epoch: its relative noise falls with their square root.

    Each step's noise is taken as relative to its padded pixels: (sum x)^2 / sum x^2.
    """
    pixels = [float(shape[SHAPE.index("padded_pixels")]) for shape in shapes]
    return math.fsum(pixels) ** 2 / math.fsum(value * value for value in pixels)


def step_noise(processes: Sequence[SeenProcess]) -> StepNoise | None:
    """Return the noise of the steps of one spec; None where no step was made twice, or epochs are of unlike shapes.

    Residuals are taken around the mean of the same step over all epochs and processes, each process first brought to
    the same level, so that what differs between processes as wholes is not in it. Where residuals of neighbouring steps
    are alike, sums of neighbours are taken (stats.correlated_ratio_of_sums). A mean for every step and a level for
    every process but one cost a degree of freedom each.
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
    # The standard error is that of the mean over all epochs, and takes one degree of freedom only for the means.
    square = estimate.se**2 * num_epochs * uneven * (num_observations - 1) / freedom
    groups = (estimate.dof + 1) / num_observations
    # Large steps weigh most: a sum of unequal variances rests on fewer observations (Satterthwaite).
    return StepNoise(relative=math.sqrt(square), degrees_of_freedom=max(1.0, freedom * groups * uneven / num_steps))


def pooled_noise(parts: Sequence[StepNoise]) -> StepNoise | None:
    """Return the noise over several specs, each weighted by its degrees of freedom; None for none."""
    total = math.fsum(part.degrees_of_freedom for part in parts)
    if not parts:
        return None
    square = math.fsum(part.degrees_of_freedom * part.relative**2 for part in parts) / total
    return StepNoise(relative=math.sqrt(square), degrees_of_freedom=total)
