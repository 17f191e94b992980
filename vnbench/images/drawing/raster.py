"""Drawing of one synthetic raster log: a strip that is printed, worn, plotted and scanned.

A strip shows three tracks and a depth column. Depth runs along its width; a whole log would be many strips. The form is
printed, folded and stained, the curves are plotted, and the scan adds a slight skew, specks and grain. The mask holds
exactly the pixels of the curves and gets the same skew.

Shape suffixes: H rows, W columns (the swept, long axis).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vnbench.images.drawing.curves import Stroke, choose_bands, choose_codes, draw_curve
from vnbench.images.drawing.layout import choose_layout
from vnbench.images.drawing.printing import choose_press, print_form
from vnbench.images.drawing.scan import BLEED, choose_feed, feed, grain, specks, wear
from vnbench.records.spec.words import NUM_CLASSES, Task

GENERATOR_VERSION = 3
"""Raise it with every change that alters a pixel, so that different drawings get different corpora."""

Gray: TypeAlias = NDArray[np.uint8]


def draw_example(*, seed: int, index: int, height: int, width: int, task: Task) -> tuple[Gray, Gray]:
    """Return image and mask of one example, both uint8 (H, W); they depend on the arguments alone.

    Mask classes: 0 background, 1 and 2 the curves, the second over the first; for ``binary``, 1 for both. Only integer
    arithmetic is used, so that every machine draws the same pixels.

    Raises:
        ValueError: height or width is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"{height} x {width} px is not a size: a side is at least 1 px")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, index], dtype=np.uint64)))
    layout = choose_layout(rng, height=height, width=width)
    image_HW = print_form(rng, layout, choose_press(rng), height=height, width=width)
    wear(rng, image_HW)
    mask_HW = np.zeros((height, width), dtype=np.uint8)
    for number, (band, code) in enumerate(zip(choose_bands(rng, layout), choose_codes(rng), strict=True)):
        stroke = draw_curve(rng, band, number=number, code=code, first_column=layout.header, width=width)
        _bleed(image_HW, stroke)
        image_HW[stroke.rows, stroke.columns] = stroke.grays
        mask_HW[stroke.rows, stroke.columns] = min(number + 1, NUM_CLASSES[task] - 1)
    way = choose_feed(rng, height=height, width=width)
    image_HW, mask_HW = feed(image_HW, way, beyond=way.beyond), feed(mask_HW, way, beyond=0)
    specks(rng, image_HW)
    grain(rng, image_HW)
    return image_HW, mask_HW


def _bleed(image_HW: Gray, stroke: Stroke) -> None:
    """Darken the pixels above and below a stroke, where its ink has bled; they are not part of the curve."""
    height = len(image_HW)
    for offset in (-1, 1):
        rows = np.clip(stroke.rows + offset, 0, height - 1)
        paper = image_HW[rows, stroke.columns]
        image_HW[rows, stroke.columns] = paper - paper // BLEED
