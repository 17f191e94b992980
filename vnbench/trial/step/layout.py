"""The order of the numbers of a map in memory, for a network and the images that go into it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.records.spec.words import MemoryFormat

ONEDNN_BLOCK_CHANNELS = 16
"""Channels that oneDNN takes at a time where it has AVX-512; with AVX2 it takes 8."""


def lay_out(model: nn.Module, memory_format: MemoryFormat, *, device: torch.device) -> nn.Module:
    """Return the model on a device, its convolutions' weights in ``memory_format``.

    The maps take the order of the weights. The model may be changed in place.
    """
    if memory_format == "contiguous":
        return model.to(device)
    if device.type == "cpu":
        _replace_strided_pointwise_convolutions(model)
    laid_out: nn.Module = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def lay_out_images(images_BCHW: Tensor, memory_format: MemoryFormat) -> Tensor:
    """Return images of one channel with the strides of ``memory_format``, a view.

    With one channel both orders are the same bytes, and only the strides tell them apart: ``contiguous`` sees nothing
    to do, and ``to`` copies.
    """
    if memory_format == "contiguous":
        return images_BCHW
    return images_BCHW.squeeze(1).unsqueeze(-1).movedim(-1, 1)


class _SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution that drops the pixels that its stride skips, and then goes over the rest with stride 1."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what the strided convolution returns."""
        rows, columns = self.stride
        return F.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


def _replace_strided_pointwise_convolutions(model: nn.Module) -> None:
    """Keep oneDNN from strided 1x1 convolutions of few channels in channels-last, all parameters staying as they are.

    Their weight gradient is written past the end of a workspace (github.com/uxlfoundation/oneDNN/issues/6035): with
    torch 2.11 and 2.13 the step corrupts the heap, and mostly dies of it. Only veernet-tiny has such convolutions.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Conv2d) or child.in_channels >= ONEDNN_BLOCK_CHANNELS:
                continue
            if child.kernel_size == (1, 1) and child.stride != (1, 1):
                # Made on the meta device: it draws no random numbers for weights that it will not keep.
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
