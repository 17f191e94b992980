"""Drawing of one synthetic raster log: gray paper, a grid, two curves, scan noise, and the mask of the curves.

Shape suffixes: H rows, W columns (the swept, long axis).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vnbench.spec import NUM_CLASSES, Task

GENERATOR_VERSION = 1
"""Rises with every change that alters a pixel, so that corpora of different drawings are told apart."""

NUM_CURVES = 2
MAX_LINE_THICKNESS = 3
"""Curves are drawn 1 to 3 px thick, which is why the images cannot be resized."""

PAPER_GRAYS = (208, 236)
"""Range of the paper, one gray per log: scans of aged paper are not white."""
MINOR_GRID_GRAY = 178
MAJOR_GRID_GRAY = 138
CURVE_GRAYS = (36, 84)
"""Ink of the two curves. They differ, as the coded lines of a real log do; of equal ones, only the place would tell."""
MINOR_GRID_PITCH = 20
"""Pixels between minor lines: 2 ft of a log of 5 in per 100 ft, scanned at 200 dpi."""
MAJOR_GRID_PITCH = 100
"""Pixels between major lines: 10 ft."""

OCTAVES = ((384, 0.50), (48, 0.32), (12, 0.12), (6, 0.06))
"""Knot spacing in pixels and share of the swing: formations, beds, laminae, and the jitter of the tool.

Each spacing divides the one before it, so a curve turns only at multiples of the last one, 6 px. Turns in neighbouring
columns would merge into a blot thicker than the line.
"""
CENTRES = (0.3, 0.7)
"""Middle of each curve's swing, as a share of the height."""
SWING = 0.27
"""Largest excursion from the middle, as a share of the height: the two bands overlap, so the curves cross at times."""

Gray: TypeAlias = NDArray[np.uint8]


def draw_example(*, seed: int, index: int, height: int, width: int, task: Task) -> tuple[Gray, Gray]:
    """Return image and mask of one example, both uint8 (H, W), as a function of the arguments alone.

    Mask classes: 0 background, 1 and 2 the curves, the second over the first; for ``binary`` 1 for both.

    Raises:
        ValueError: a height or width below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"{height} x {width} px is no size: a side is at least 1 px")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))
    noise_HW = _draw_noise(rng, height=height, width=width)
    image_HW = _draw_grid(rng, height=height, width=width)
    image_HW += noise_HW
    mask_HW = np.zeros((height, width), dtype=np.uint8)
    for curve in range(NUM_CURVES):
        rows, columns = _draw_curve(rng, height=height, width=width, centre=CENTRES[curve])
        image_HW[rows, columns] = noise_HW[rows, columns] + np.uint8(CURVE_GRAYS[curve])
        mask_HW[rows, columns] = min(curve + 1, NUM_CLASSES[task] - 1)
    return image_HW, mask_HW


def _draw_noise(rng: np.random.Generator, *, height: int, width: int) -> Gray:
    """Return the grain of the scanner, uint8 (H, W): 0 to 8 gray levels, binomial, standard deviation 1.4.

    The set bits of a random byte: as good as a normal deviate at this scale, and twenty times as fast.
    """
    noise = np.frombuffer(rng.bytes(height * width), dtype=np.uint8)
    return np.bitwise_count(noise).reshape(height, width)


def _draw_grid(rng: np.random.Generator, *, height: int, width: int) -> Gray:
    """Return paper with minor and major grid lines, uint8 (H, W)."""
    paper_gray = rng.integers(*PAPER_GRAYS, endpoint=True)
    levels = []
    for length in (height, width):
        phase = rng.integers(MAJOR_GRID_PITCH)
        position = np.arange(length) + phase
        level = np.full(length, paper_gray, dtype=np.uint8)
        level[position % MINOR_GRID_PITCH == 0] = MINOR_GRID_GRAY
        level[position % MAJOR_GRID_PITCH < 2] = MAJOR_GRID_GRAY
        levels.append(level)
    row_levels, column_levels = levels
    return np.minimum(row_levels[:, None], column_levels[None, :])


def _draw_curve(
    rng: np.random.Generator, *, height: int, width: int, centre: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of the pixels of one connected line from the left edge to the right one.

    Column x is filled from the value at x to the value at x + 1, so neighbouring columns share a row however steep the
    line is; the pen adds its thickness downwards.
    """
    thickness = min(int(rng.integers(1, MAX_LINE_THICKNESS, endpoint=True)), height)
    position = np.arange(width + 1)
    swing = np.zeros(width + 1)
    for spacing, share in OCTAVES:
        knots = rng.uniform(-1.0, 1.0, width // spacing + 2)
        swing += share * np.interp(position, spacing * np.arange(len(knots)), knots)
    value = np.rint(height * (centre + SWING * swing)).astype(np.int64)
    value = np.clip(value, 0, height - thickness)
    top = np.minimum(value[:-1], value[1:])
    run = np.abs(np.diff(value)) + thickness
    first_of_column = np.cumsum(run) - run
    rows = np.arange(run.sum()) + np.repeat(top - first_of_column, run)
    columns = np.repeat(np.arange(width), run)
    return rows, columns
