"""Classifiers whose step times others have published, written anew from their papers; maps are (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]

CLASSES = 1000


def layer(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, norm: Norm = nn.BatchNorm2d
) -> nn.Sequential:
    """Return a convolution that keeps the map's size but for the stride, and its normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False), norm(out_channels)
    )


class Added(nn.Module):
    """A branch whose output is added to its input, or to a projection of it, and then activated."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None, *, activates: bool) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()
        self.activate = nn.ReLU(inplace=True) if activates else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.branch(x)
        y += self.shortcut(x)
        found: Tensor = self.activate(y)
        return found


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def resnet(depth: int) -> nn.Module:
    """Return a residual network (He and others 2016)."""
    numbers = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    blocks: list[nn.Module] = [layer(3, 64, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, number in enumerate(numbers):
        width = 64 * 2**stage
        out = width * (1 if depth < 50 else 4)
        for block in range(number):
            stride = 2 if stage and not block else 1
            act = partial(nn.ReLU, inplace=True)
            if depth < 50:
                parts = [layer(channels, width, 3, stride=stride), act(), layer(width, width, 3)]
            else:
                parts = [layer(channels, width, 1), act(), layer(width, width, 3, stride=stride), act()]
                parts.append(layer(width, out, 1))
            shortcut = layer(channels, out, 1, stride=stride) if channels != out or stride > 1 else None
            blocks.append(Added(nn.Sequential(*parts), shortcut, activates=True))
            channels = out
    return nn.Sequential(*blocks, _head(channels))


def vgg11(*, has_norms: bool) -> nn.Module:
    """Return a network of eleven layers with weights (Simonyan and Zisserman 2015)."""
    blocks: list[nn.Module] = []
    channels = 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if not width:
            blocks.append(nn.MaxPool2d(2, 2))
            continue
        blocks.append(nn.Conv2d(channels, width, 3, padding=1))
        blocks += [nn.BatchNorm2d(width)] if has_norms else []
        blocks.append(nn.ReLU(inplace=True))
        channels = width
    dense = [nn.Conv2d(512, 4096, 7), nn.ReLU(inplace=True), nn.Conv2d(4096, 4096, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*blocks, *dense, _head(4096))


class Dense(nn.Module):
    """Layers that each take the maps of all before them (Huang and others 2017)."""

    def __init__(self, channels: int, number: int, *, growth: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + growth * before),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels + growth * before, 4 * growth, 1, bias=False),
                nn.BatchNorm2d(4 * growth),
                nn.ReLU(inplace=True),
                nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            )
            for before in range(number)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return all maps beside each other."""
        maps = [x]
        for one in self.layers:
            maps.append(one(torch.cat(maps, dim=1)))
        return torch.cat(maps, dim=1)


def densenet121() -> nn.Module:
    """Return a densely connected network (Huang and others 2017)."""
    blocks: list[nn.Module] = [layer(3, 64, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, number in enumerate((6, 12, 24, 16)):
        blocks.append(Dense(channels, number))
        channels += 32 * number
        if stage < 3:
            blocks += [
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels // 2, 1, bias=False),
            ]
            blocks.append(nn.AvgPool2d(2, 2))
            channels //= 2
    return nn.Sequential(*blocks, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), _head(channels))


class Excite(nn.Module):
    """Weighs the channels of a map by their means (Hu and others 2018)."""

    def __init__(self, channels: int, narrow: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Conv2d(channels, narrow, 1), act(), nn.Conv2d(narrow, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with its channels weighed."""
        weighed: Tensor = x * self.weigh(x.mean((2, 3), keepdim=True))
        return weighed


def inverted(
    stages: Sequence[tuple[int, int, int, int, int]],
    *,
    stem: int,
    last: int,
    act: Callable[[], nn.Module],
    excites: bool,
    norm: Norm = nn.BatchNorm2d,
) -> nn.Module:
    """Return a network of inverted residual blocks; ``stages`` are (expansion, channels, blocks, stride, kernel)."""
    blocks: list[nn.Module] = [layer(3, stem, 3, stride=2, norm=norm), act()]
    channels = stem
    for expansion, out, number, stride, kernel in stages:
        for block in range(number):
            wide, step = channels * expansion, 1 if block else stride
            parts = [layer(channels, wide, 1, norm=norm), act()] if expansion > 1 else []
            parts += [layer(wide, wide, kernel, stride=step, groups=wide, norm=norm), act()]
            parts += [Excite(wide, max(1, channels // 4), act)] if excites else []
            parts.append(layer(wide, out, 1, norm=norm))
            branch = nn.Sequential(*parts)
            blocks.append(Added(branch, None, activates=False) if step == 1 and channels == out else branch)
            channels = out
    return nn.Sequential(*blocks, layer(channels, last, 1, norm=norm), act(), _head(last))


def mobilenetv2() -> nn.Module:
    """Return the network of Sandler and others (2018)."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )
    return inverted(stages, stem=32, last=1280, act=partial(nn.ReLU6, inplace=True), excites=False)


def efficientnet_b0(*, norm: Norm = nn.BatchNorm2d) -> nn.Module:
    """Return the network of Tan and Le (2019)."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    return inverted(stages, stem=32, last=1280, act=partial(nn.SiLU, inplace=True), excites=True, norm=norm)


def groups_of_eight(channels: int) -> nn.Module:
    """Return a GroupNorm whose groups have eight channels."""
    return nn.GroupNorm(channels // 8, channels)


class Next(nn.Module):
    """A block with a depthwise convolution of 7 x 7 and two linear layers on channels (Liu and others 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mix = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.mix(self.norm(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        added: Tensor = x + y * self.scale.view(1, -1, 1, 1)
        return added


class OnChannels(nn.Module):
    """LayerNorm on the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, normalised pixel by pixel."""
        normalized: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normalized


def convnext_tiny() -> nn.Module:
    """Return the small network of Liu and others (2022)."""
    widths = (96, 192, 384, 768)
    blocks: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), OnChannels(96)]
    for stage, (width, number) in enumerate(zip(widths, (3, 3, 9, 3), strict=True)):
        blocks += [OnChannels(widths[stage - 1]), nn.Conv2d(widths[stage - 1], width, 2, 2)] if stage else []
        blocks += [Next(width) for _ in range(number)]
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), OnChannels(768), nn.Flatten(), nn.Linear(768, CLASSES))
    return nn.Sequential(*blocks, pooled)


def regnetx_008() -> nn.Module:
    """Return the network of 800 MFLOP of Radosavovic and others (2020), its groups 16 channels wide."""
    blocks: list[nn.Module] = [layer(3, 32, 3, stride=2), nn.ReLU(inplace=True)]
    channels = 32
    for width, number in zip((64, 128, 288, 672), (1, 3, 7, 5), strict=True):
        for block in range(number):
            stride = 1 if block else 2
            parts = [layer(channels, width, 1), nn.ReLU(inplace=True)]
            parts += [layer(width, width, 3, stride=stride, groups=width // 16), nn.ReLU(inplace=True)]
            parts.append(layer(width, width, 1))
            shortcut = None if block else layer(channels, width, 1, stride=stride)
            blocks.append(Added(nn.Sequential(*parts), shortcut, activates=True))
            channels = width
    return nn.Sequential(*blocks, _head(channels))


def classifier_loss(network: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of a classifier."""
    return functional.cross_entropy(network(images_BCHW), labels_B)
