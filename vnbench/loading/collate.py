"""Collation of examples into a batch: padded as uint8 on the host, converted to float and int64 on the device.

Shape suffixes: B examples, C channels (one), H rows and W columns of the canvas.

A batch crosses processes and the bus as bytes: 262 MB for 16 examples of 640 x 12,800, where float images, int64
targets and a validity mask would be 1.7 GB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from vnbench.batching.alignment import align
from vnbench.records.spec.words import ALIGNMENT

Example: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Image and mask, both uint8 (H, W)."""

WHITE = 255
"""Gray of padded pixels: blank paper, which ``device_tensors`` makes exactly 0."""

BACKGROUND = 0
"""Class of padded pixels; the validity mask keeps them out of the loss."""


class Batch(NamedTuple):
    """A micro-batch from the loader: three tensors for any number of examples."""

    images_BHW: Tensor
    """uint8, WHITE beyond each example's size."""
    masks_BHW: Tensor
    """uint8 classes, BACKGROUND beyond each example's size."""
    sizes_B2: Tensor
    """int32, height and width of each example in pixels."""


class DeviceTensors(NamedTuple):
    """A micro-batch as input of model and loss."""

    images_BCHW: Tensor
    """float32, one channel: 0 for white, 1 for black."""
    targets_BHW: Tensor
    """int64 classes."""
    valid_BHW: Tensor
    """bool, True for pixels of an example and False for padding."""


def collate(examples: Sequence[Example], *, canvas: tuple[int, int] | None = None, pin_memory: bool = False) -> Batch:
    """Return a batch of examples, padded at the bottom and on the right.

    The canvas is the given (height, width), or the aligned maximum height and width of the examples. In a loader's
    worker process, images and masks are in shared memory; elsewhere ``pin_memory`` puts all three tensors into pinned
    memory.

    Raises:
        ValueError: there are no examples, or the canvas is not aligned or is smaller than an example.
    """
    if not examples:
        raise ValueError("a batch holds at least one example")
    sizes_B2 = np.array([image_HW.shape for image_HW, _ in examples], dtype=np.int32)
    height, width = canvas or (align(side) for side in sizes_B2.max(axis=0).tolist())
    if height % ALIGNMENT or width % ALIGNMENT or (sizes_B2 > (height, width)).any():
        raise ValueError(
            f"canvas {width} x {height}: its sides must be multiples of {ALIGNMENT} and at least as large as "
            f"{sizes_B2[:, 1].max()} x {sizes_B2[:, 0].max()} px"
        )
    images_BHW, masks_BHW = (_empty_bytes((len(examples), height, width), pin_memory=pin_memory) for _ in range(2))
    for index, (image_HW, mask_HW) in enumerate(examples):
        # Use numpy: decoded pixels are read-only, and torch warns about such arrays.
        _fill(images_BHW[index].numpy(), image_HW, padding=WHITE)
        _fill(masks_BHW[index].numpy(), mask_HW, padding=BACKGROUND)
    return Batch(images_BHW=images_BHW, masks_BHW=masks_BHW, sizes_B2=_sizes(sizes_B2, pin_memory=pin_memory))


def blank_batch(num_examples: int, *, height: int, width: int) -> Batch:
    """Return a batch of blank paper that fills its canvas."""
    return Batch(
        images_BHW=torch.full((num_examples, height, width), WHITE, dtype=torch.uint8),
        masks_BHW=torch.full((num_examples, height, width), BACKGROUND, dtype=torch.uint8),
        sizes_B2=torch.tensor([(height, width)] * num_examples, dtype=torch.int32),
    )


def to_device(batch: Batch, device: torch.device, *, non_blocking: bool) -> Batch:
    """Return the batch on a device. A ``non_blocking`` copy from pinned memory does not block the host."""
    return Batch(*(tensor.to(device, non_blocking=non_blocking) for tensor in batch))


def device_tensors(batch: Batch) -> DeviceTensors:
    """Return the inputs of model and loss, computed on the device of the batch.

    Ink is 1 and white is exactly 0, so padded pixels equal the convolutions' zero padding, and a canvas may end
    anywhere. Images are not standardised: a norm follows the first convolution.
    """
    device = batch.images_BHW.device
    _, height, width = batch.images_BHW.shape
    # Invert bytes: one pass over a quarter of the memory, and no rounding near white.
    images_BHW = (WHITE - batch.images_BHW).to(torch.float32).div_(WHITE)
    heights_B11, widths_B11 = batch.sizes_B2[:, :, None, None].unbind(dim=1)
    rows_H1 = torch.arange(height, dtype=torch.int32, device=device)[:, None]
    columns_W = torch.arange(width, dtype=torch.int32, device=device)
    return DeviceTensors(
        images_BCHW=images_BHW[:, None],
        targets_BHW=batch.masks_BHW.to(torch.int64),
        valid_BHW=(rows_H1 < heights_B11) & (columns_W < widths_B11),
    )


def _empty_bytes(shape: tuple[int, ...], *, pin_memory: bool) -> Tensor:
    """Return an uninitialised uint8 tensor; one made in a worker reaches another process without a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
    # torch's default_collate allocates in the same way. The public share_memory_() would write the batch a second time,
    # which halves the throughput of two workers.
    new_shared = getattr(torch.UntypedStorage, "_new_shared", None)
    if new_shared is None:
        # Slower but correct: torch moves the tensor into shared memory when it is sent.
        return torch.empty(shape, dtype=torch.uint8)
    return torch.empty(0, dtype=torch.uint8).set_(new_shared(math.prod(shape))).view(shape)


def _sizes(sizes_B2: NDArray[np.int32], *, pin_memory: bool) -> Tensor:
    """Return the sizes as a tensor, pinned like the images: copying unpinned sizes would block the host."""
    if not pin_memory or get_worker_info() is not None:
        return torch.from_numpy(sizes_B2)
    return torch.empty(sizes_B2.shape, dtype=torch.int32, pin_memory=True).copy_(torch.from_numpy(sizes_B2))


def _fill(canvas_HW: NDArray[np.uint8], example_HW: NDArray[np.uint8], *, padding: int) -> None:
    """Write an example to the top left of a canvas and the padding around it; no pixel is written twice."""
    height, width = example_HW.shape
    canvas_HW[:height, :width] = example_HW
    canvas_HW[:height, width:] = padding
    canvas_HW[height:] = padding
