"""Draw the examples on which a loop is audited: small ones of different sizes, all on one canvas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CANVAS_HEIGHT = 64
"""Height in pixels of the canvas: the smallest on which a network trains."""

CANVAS_WIDTH = 96
"""Width in pixels of the canvas: not its height, so that a loop that swaps the two fails."""

SMALLEST_SHARE = 0.5
"""Smallest share of either side of the canvas that an example takes."""

Batch = tuple[Tensor, Tensor, Tensor]
"""images_BCHW, targets_BHW and valid_BHW: float32, class numbers as int64, and bool, False on padding."""


def draw_batch(numbers: Sequence[int], *, num_classes: int, seed: int) -> Batch:
    """Return a batch of some examples by number; an example is the same in every batch."""
    examples = [_draw(number, num_classes=num_classes, seed=seed) for number in numbers]
    images, targets, valid = (torch.stack(parts) for parts in zip(*examples, strict=True))
    return images, targets, valid


def _draw(number: int, *, num_classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1_000_003 * seed + number)
    shares = SMALLEST_SHARE + (1 - SMALLEST_SHARE) * torch.rand(2, generator=generator)
    height, width = round(CANVAS_HEIGHT * float(shares[0])), round(CANVAS_WIDTH * float(shares[1]))
    valid_HW = torch.zeros(CANVAS_HEIGHT, CANVAS_WIDTH, dtype=torch.bool)
    valid_HW[:height, :width] = True
    image_1HW = torch.rand(1, CANVAS_HEIGHT, CANVAS_WIDTH, generator=generator) * valid_HW
    # Every example has classes of its own, so that gradients of examples differ.
    share = float(torch.rand((), generator=generator))
    is_class_HW = torch.rand(CANVAS_HEIGHT, CANVAS_WIDTH, generator=generator) < share
    classes_HW = torch.randint(1, num_classes, (CANVAS_HEIGHT, CANVAS_WIDTH), generator=generator)
    return image_1HW, classes_HW * is_class_HW * valid_HW, valid_HW
