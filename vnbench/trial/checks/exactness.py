"""The check that padding does not change a network's output: one image on two canvases, layer by layer, in float64.

An exact network gives the same output for an image's own pixels on every canvas. If not, the first module whose output
differs is at fault, or an earlier one that left nonzero values in the padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import collate, device_tensors

IMAGES = ((64, 160), (50, 150))
"""Heights and widths in pixels: one image fills the first canvas and has padding only on the other; the border of the
other image lies inside a pixel of every level."""

CANVASES = ((64, 160), (96, 256))
"""Heights and widths in pixels: the images' own canvas, and one with more padding on both sides."""

TOLERANCE = 1e-10
"""Relative difference far above rounding in float64: exact networks reach 1e-14."""

READS_PADDING: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.modules.batchnorm._BatchNorm, "its statistics count padded pixels"),
    (nn.GroupNorm, "its statistics count padded pixels"),
    (nn.LayerNorm, "its statistics count padded pixels"),
    (nn.modules.instancenorm._InstanceNorm, "its statistics count padded pixels"),
    (nn.Upsample, "it mixes pixels across the border of the image"),
    (nn.AdaptiveAvgPool2d, "it averages over padded pixels"),
    (nn.MultiheadAttention, "its queries attend to padded tokens"),
)
"""Modules that cannot be exact, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Effect of padding on an image's own pixels."""

    logits_error: float
    """Norm of the logits' difference, relative to the norm of the logits."""
    where: str
    """The module where the difference starts, and why, if that can be determined."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a module without children."""

    name: str
    module: nn.Module
    input_CHW: Tensor | None
    output_CHW: Tensor | None


@dataclass(frozen=True, slots=True)
class _Run:
    """Outputs of a network for an image on one canvas."""

    image: tuple[int, int]
    canvas: tuple[int, int]
    calls: list[_Call]
    logits_KHW: Tensor

    def real(self, map_CHW: Tensor) -> Tensor:
        """Return the part of a map that covers pixels of the image."""
        rows, columns = self._real_sides(map_CHW)
        return map_CHW[:, :rows, :columns]

    def has_padding(self, map_CHW: Tensor) -> bool:
        """Return whether the rest of a map has nonzero values."""
        rows, columns = self._real_sides(map_CHW)
        return bool(map_CHW[:, rows:].any()) or bool(map_CHW[:, :rows, columns:].any())

    def _real_sides(self, map_CHW: Tensor) -> tuple[int, int]:
        sides = zip(self.image, map_CHW.shape[1:], self.canvas, strict=True)
        rows, columns = (math.ceil(side * at_level / whole) for side, at_level, whole in sides)
        return rows, columns


def find_leak(network: nn.Module, *, takes_mask: bool = True) -> Leak | None:
    """Return the effect of padding on a network's output; None if there is none.

    The network is converted to float64; its weights and mode are used unchanged. ``takes_mask`` says whether it takes
    the images' masks, too.
    """
    network = network.double()
    for image in IMAGES:
        alone, padded = (_run(network, image, canvas, takes_mask=takes_mask) for canvas in CANVASES)
        error = _difference(padded.real(padded.logits_KHW), alone.real(alone.logits_KHW))
        if error > TOLERANCE:
            return Leak(logits_error=error, where=_where(alone, padded))
    return None


def _run(network: nn.Module, image: tuple[int, int], canvas: tuple[int, int], *, takes_mask: bool) -> _Run:
    example = draw_example(seed=0, index=0, height=image[0], width=image[1], task="multiclass")
    tensors = device_tensors(collate([example], canvas=canvas))
    calls: list[_Call] = []
    with torch.no_grad(), _listened(network, canvas, calls):
        masks = (tensors.valid_BHW,) if takes_mask else ()
        logits_BKHW = network(tensors.images_BCHW.double(), *masks)
    return _Run(image, canvas, calls, logits_BKHW[0])


@contextmanager
def _listened(network: nn.Module, canvas: tuple[int, int], calls: list[_Call]) -> Iterator[None]:
    """Append each call of a module without children to ``calls``, in order."""

    def listen(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            before, after = (_as_map(value, canvas) for value in (inputs[0] if inputs else None, output))
            calls.append(_Call(name, module, before, after))

        return hook

    handles = [
        module.register_forward_hook(listen(name))
        for name, module in network.named_modules()
        if not any(module.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _as_map(value: Any, canvas: tuple[int, int]) -> Tensor | None:
    """Return a copy of a map, or of tokens reshaped to their map, (C, H, W); None for anything else."""
    value = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(value, Tensor) or value.shape[0] != 1:
        return None
    if value.dim() == 4:
        return value[0].clone()
    if value.dim() != 3:
        return None
    # Tokens, row by row, of a map that is the canvas divided by a power of two.
    for level in range(min(canvas).bit_length()):
        height, width = canvas[0] >> level, canvas[1] >> level
        if height * width == value.shape[1]:
            return value[0].T.reshape(-1, height, width).clone()
    return None


def _where(alone: _Run, padded: _Run) -> str:
    for index, (one, other) in enumerate(zip(alone.calls, padded.calls, strict=False)):
        if one.output_CHW is None or other.output_CHW is None:
            continue
        error = _difference(padded.real(other.output_CHW), alone.real(one.output_CHW))
        if error <= TOLERANCE:
            continue
        told = f"first at {_called(one)}, whose output differs by {100 * error:.2g} %"
        return f"{told}: {_why(alone, padded, index)}"
    return "after the last module, in a function that is not a module"


def _why(alone: _Run, padded: _Run, index: int) -> str:
    one, other = alone.calls[index], padded.calls[index]
    if one.input_CHW is not None and other.input_CHW is not None:
        if _difference(padded.real(other.input_CHW), alone.real(one.input_CHW)) > TOLERANCE:
            return "its input already differs, because of a function between it and the module before (interpolate?)"
        known = next((why for kind, why in READS_PADDING if isinstance(one.module, kind)), None)
        if known is not None:
            return known
        if padded.has_padding(other.input_CHW) or alone.has_padding(one.input_CHW):
            writers = (call for call in reversed(padded.calls[:index]) if call.output_CHW is not None)
            writer = next(
                (call for call in writers if call.output_CHW is not None and padded.has_padding(call.output_CHW)), None
            )
            if writer is not None:
                bias = " (its bias)" if getattr(writer.module, "bias", None) is not None else ""
                return f"it reads padding that {_called(writer)} left nonzero{bias}"
    return "it is not exact"


def _called(call: _Call) -> str:
    return f"{call.name or 'the network'} ({type(call.module).__name__})"


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
