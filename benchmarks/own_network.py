"""Example of a user's own network, a small plain U-Net, for ``vnbench sweep --model
benchmarks/own_network.py:build``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CHANNELS = (8, 16, 32)
"""Channels of each level, from full resolution down."""


def build(*, num_classes: int, checkpointing: str = "none") -> nn.Module:
    """Return a network that maps images, (B, 1, H, W), to logits, (B, num_classes, H, W).

    A parameter named like an option of the sweep makes that option an axis for this network: here ``checkpointing``;
    others would be ``norm_precision``, ``norm_groups``, ``norm_kernel`` and ``padding``.
    """
    if checkpointing not in ("none", "stages"):
        raise ValueError(f"checkpointing {checkpointing!r}: this network has none and stages")
    return SmallUNet(num_classes, checkpointing=checkpointing)


class SmallUNet(nn.Module):
    def __init__(self, num_classes: int, *, checkpointing: str) -> None:
        super().__init__()
        self.is_checkpointed = checkpointing == "stages"
        self.down = nn.ModuleList(
            block(inside, outside) for inside, outside in zip((1, *CHANNELS[:-1]), CHANNELS, strict=True)
        )
        self.up = nn.ModuleList(block(CHANNELS[level] + CHANNELS[level - 1], CHANNELS[level - 1]) for level in (2, 1))
        self.head = nn.Conv2d(CHANNELS[0], num_classes, kernel_size=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        maps = [self.run(self.down[0], images_BCHW)]
        for stage in self.down[1:]:
            maps.append(self.run(stage, nn.functional.max_pool2d(maps[-1], 2)))
        x_BCHW = maps.pop()
        for stage in self.up:
            larger = nn.functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
            x_BCHW = self.run(stage, torch.cat((larger, maps.pop()), dim=1))
        logits_BKHW: Tensor = self.head(x_BCHW)
        return logits_BKHW

    def run(self, stage: nn.Module, x_BCHW: Tensor) -> Tensor:
        output: Tensor = checkpoint(stage, x_BCHW, use_reentrant=False) if self.is_checkpointed else stage(x_BCHW)
        return output


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
