"""Memory layout of a network's maps and of its input images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.records.spec.words import MemoryFormat

ONEDNN_BLOCK_CHANNELS = 16
"""Channels that oneDNN processes at a time with AVX-512; with AVX2 it is 8."""


def lay_out(model: nn.Module, memory_format: MemoryFormat, *, device: torch.device) -> nn.Module:
    """Return the model on a device with its convolutions' weights in ``memory_format``.

    The maps follow the layout of the weights. The model may be changed in place.
    """
    if memory_format == "contiguous":
        return model.to(device)
    if device.type == "cpu":
        _replace_strided_pointwise_convolutions(model)
    return to_channels_last(model.to(device))


def to_channels_last(model: nn.Module) -> nn.Module:
    """Return the model with its convolutions' weights laid out channels-last, changed in place."""
    laid_out: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def lay_out_images(images_BCHW: Tensor, memory_format: MemoryFormat) -> Tensor:
    """Return a view of one-channel images with the strides of ``memory_format``.

    With one channel both layouts have the same bytes and differ only in strides: ``contiguous`` would do nothing, and
    ``to`` would copy.
    """
    if memory_format == "contiguous":
        return images_BCHW
    return images_BCHW.squeeze(1).unsqueeze(-1).movedim(-1, 1)


class _SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution that drops the pixels that its stride skips, then runs with stride 1."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of the strided convolution."""
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


def _replace_strided_pointwise_convolutions(model: nn.Module) -> None:
    """Replace strided 1x1 convolutions of few channels, which oneDNN gets wrong in channels-last; parameters are kept.

    oneDNN writes their weight gradient past the end of a workspace (github.com/uxlfoundation/oneDNN/issues/6035): with
    torch 2.11 and 2.13 the step corrupts the heap and usually crashes. Only veernet-tiny has such convolutions.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Conv2d) or child.in_channels >= ONEDNN_BLOCK_CHANNELS:
                continue
            if child.kernel_size == (1, 1) and child.stride != (1, 1):
                # Made on the meta device, so that no random numbers are drawn for weights that will be replaced.
                replacement = _SubsampledConv2d(
                    child.in_channels,
                    child.out_channels,
                    kernel_size=1,
                    stride=(child.stride[0], child.stride[1]),
                    bias=child.bias is not None,
                    device="meta",
                )
                replacement.load_state_dict(child.state_dict(keep_vars=True), assign=True)
                setattr(parent, name, replacement)
