"""What a batch tells of its pass: examples, canvas, and the sizes that the images had before they were padded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from vnbench.batching.sizes import SizeArray
from vnbench.errors import InputError

Sizes = Callable[[Any], Any]
"""Returns the heights and widths of a batch's images before they were padded, (B, 2)."""

NUM_SIDES = 4
"""Dimensions of a batch of images: examples, channels, height, width."""

REMEDY = (
    "write sizes=lambda batch: [(height, width), ...] with the height and width of each image before padding, or "
    "sizes='canvas' where nothing is padded"
)


@dataclass(slots=True)
class Pass:
    """A forward and backward pass of a run."""

    num_examples: int
    """Examples of its batch."""
    canvas: tuple[int, int]
    """Height and width of its images, padding included."""
    sizes_B2: Any
    """Sizes before padding, as the batch told them; a tensor may still lie on the device."""
    is_after_validation: bool = False
    """Whether a validation came before it."""
    has_snapshot: bool = False
    """Whether a snapshot was saved since the pass before."""
    loss: Any = None
    """Loss that the loop told, which may still lie on the device."""

    @property
    def padded_pixels(self) -> int:
        """Pixels of its canvas over all examples."""
        return self.num_examples * self.canvas[0] * self.canvas[1]

    def valid_sizes_B2(self) -> SizeArray:
        """Return the sizes before padding as whole numbers.

        Raises:
            InputError: they are no (B, 2) whole pixels within the canvas.
        """
        told = self.sizes_B2
        if isinstance(told, Tensor):
            told = told.detach().cpu().numpy()
        elif isinstance(told, Sequence):
            told = [one.tolist() if isinstance(one, Tensor) else one for one in told]
        try:
            sizes_B2 = np.asarray(told, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError("sizes", str(told)[:80], allowed="they are no numbers", remedy=REMEDY) from error
        if sizes_B2.shape != (self.num_examples, 2):
            shape = f"shape {tuple(sizes_B2.shape)}"
            allowed = f"a batch of {self.num_examples} has ({self.num_examples}, 2)"
            raise InputError("sizes", shape, allowed=allowed, remedy=REMEDY)
        whole_B2 = sizes_B2.astype(np.int64)
        if (whole_B2 != sizes_B2).any() or (whole_B2 < 1).any() or (whole_B2 > np.array(self.canvas)).any():
            height, width = self.canvas
            allowed = f"each is a height and a width in whole pixels, within the canvas of {height} x {width}"
            raise InputError("sizes", str(whole_B2[0].tolist()), allowed=allowed, remedy=REMEDY)
        return whole_B2


def pass_of(batch: Any, sizes: Sizes | str | None) -> Pass:
    """Return the pass of a batch: its first tensor of four dimensions holds the images.

    Raises:
        InputError: there is no such tensor, or nothing tells the sizes before padding.
    """
    images_BCHW = _images(batch)
    if images_BCHW is None:
        raise InputError(
            "batch",
            type(batch).__name__,
            allowed="it holds no tensor (B, channels, height, width)",
            remedy="let the loader yield tuples, lists or dicts of tensors, with the images among them",
        )
    num_examples, _, height, width = images_BCHW.shape
    if sizes == "canvas":
        told: Any = [(height, width)] * num_examples
    elif callable(sizes):
        told = sizes(batch)
    elif (told := getattr(batch, "sizes_B2", None)) is None:
        raise InputError("sizes", allowed="the batch does not tell the sizes before padding", remedy=REMEDY)
    return Pass(num_examples=num_examples, canvas=(height, width), sizes_B2=told)


def _images(batch: Any, *, depth: int = 4) -> Tensor | None:
    """Return the first batch of images among tensors that lie in lists, dicts and objects with attributes."""
    if isinstance(batch, Tensor):
        return batch if batch.dim() == NUM_SIDES else None
    if depth == 0 or isinstance(batch, str | bytes | int | float | None):
        return None
    if isinstance(batch, Mapping):
        held: Iterable[Any] = batch.values()
    elif isinstance(batch, list | tuple):
        held = batch
    else:
        held = [
            getattr(batch, name, None) for name in (*getattr(batch, "__slots__", ()), *getattr(batch, "__dict__", ()))
        ]
    return next((found for one in held if (found := _images(one, depth=depth - 1)) is not None), None)
