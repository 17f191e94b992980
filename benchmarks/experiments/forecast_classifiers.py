"""Classifiers whose memory or step times others published, written anew from their papers; maps are (B, C, H, W)."""

from __future__ import annotations

import math
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


def resnext(depth: int, *, groups: int, width: int, excites: bool = False) -> nn.Module:
    """Return a residual network whose groups have ``width`` channels in the first stage (Xie and others 2017)."""
    blocks: list[nn.Module] = [layer(3, 64, 7, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    act = partial(nn.ReLU, inplace=True)
    for stage, number in enumerate({50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]):
        wide, out = groups * width * 2**stage, 256 * 2**stage
        for block in range(number):
            stride = 2 if stage and not block else 1
            parts = [layer(channels, wide, 1), act(), layer(wide, wide, 3, stride=stride, groups=groups), act()]
            parts += [layer(wide, out, 1), *([Excite(out, out // 16, act)] if excites else [])]
            shortcut = None if block else layer(channels, out, 1, stride=stride)
            blocks.append(Added(nn.Sequential(*parts), shortcut, activates=True))
            channels = out
    return nn.Sequential(*blocks, _head(channels))


VGG = {
    11: (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    16: (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
}
"""Channels of convolutions by number of layers with weights; 0 halves the map."""


def vgg(depth: int, *, has_norms: bool) -> nn.Module:
    """Return a network of this many layers with weights (Simonyan and Zisserman 2015)."""
    blocks: list[nn.Module] = []
    channels = 3
    for width in VGG[depth]:
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
    excites_wide: bool = False,
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
            parts += [Excite(wide, max(1, (wide if excites_wide else channels) // 4), act)] if excites else []
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


def mnasnet() -> nn.Module:
    """Return the network B1 of Tan and others (2019)."""
    stages = (
        (1, 16, 1, 1, 3),
        (3, 24, 3, 2, 3),
        (3, 40, 3, 2, 5),
        (6, 80, 3, 2, 5),
        (6, 96, 2, 1, 3),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    return inverted(stages, stem=32, last=1280, act=partial(nn.ReLU, inplace=True), excites=False)


def efficientnet(
    *, width: float = 1.0, depth: float = 1.0, excites_wide: bool = False, norm: Norm = nn.BatchNorm2d
) -> nn.Module:
    """Return the network of Tan and Le (2019), B0 unless it is wider or deeper."""
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    return inverted(
        [
            (expansion, _rounded(width * out), math.ceil(depth * number), stride, kernel)
            for expansion, out, number, stride, kernel in stages
        ],
        stem=_rounded(width * 32),
        last=_rounded(width * 1280),
        act=partial(nn.SiLU, inplace=True),
        excites=True,
        excites_wide=excites_wide,
        norm=norm,
    )


def _rounded(channels: float) -> int:
    """Return a multiple of eight that is at most a tenth less."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


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


def convnext(*, width: int, numbers: Sequence[int]) -> nn.Module:
    """Return a network of Liu and others (2022) whose first stage has ``width`` channels."""
    widths = [width * 2**stage for stage in range(4)]
    blocks: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), OnChannels(width)]
    for stage, (wide, number) in enumerate(zip(widths, numbers, strict=True)):
        blocks += [OnChannels(widths[stage - 1]), nn.Conv2d(widths[stage - 1], wide, 2, 2)] if stage else []
        blocks += [Next(wide) for _ in range(number)]
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), OnChannels(widths[-1]), nn.Flatten())
    return nn.Sequential(*blocks, pooled, nn.Linear(widths[-1], CLASSES))


def regnetx(widths: Sequence[int], numbers: Sequence[int], group: int) -> nn.Module:
    """Return a network of Radosavovic and others (2020), its groups ``group`` channels wide."""
    blocks: list[nn.Module] = [layer(3, 32, 3, stride=2), nn.ReLU(inplace=True)]
    channels = 32
    for width, number in zip(widths, numbers, strict=True):
        for block in range(number):
            stride = 1 if block else 2
            parts = [layer(channels, width, 1), nn.ReLU(inplace=True)]
            parts += [layer(width, width, 3, stride=stride, groups=max(1, width // group)), nn.ReLU(inplace=True)]
            parts.append(layer(width, width, 1))
            shortcut = None if block else layer(channels, width, 1, stride=stride)
            blocks.append(Added(nn.Sequential(*parts), shortcut, activates=True))
            channels = width
    return nn.Sequential(*blocks, _head(channels))


class Encoder(nn.Module):
    """Layers of attention over patches of 16 x 16 px (Dosovitskiy and others 2021)."""

    def __init__(self, channels: int, layers: int, heads: int, patches: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, channels, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, channels))
        self.place = nn.Parameter(torch.zeros(1, patches + 1, channels))
        self.layers = nn.Sequential(*(Attending(channels, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)
        self.classify = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, CLASSES)."""
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(len(y), -1, -1), y], dim=1) + self.place
        logits: Tensor = self.classify(self.norm(self.layers(y))[:, 0])
        return logits


class Attending(nn.Module):
    """Attention and two linear layers, each beside its input."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(channels), nn.LayerNorm(channels)])
        self.qkv, self.joined = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mix = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output (B, N, C)."""
        count, number, channels = x.shape
        qkv = self.qkv(self.norms[0](x)).reshape(count, number, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.joined(attended.transpose(1, 2).reshape(count, number, channels))
        mixed: Tensor = x + self.mix(self.norms[1](x))
        return mixed


def vit_base() -> nn.Module:
    """Return the network B/16 of Dosovitskiy and others (2021) for 224 x 224 px."""
    return Encoder(768, 12, 12, 14 * 14)


def classifier_loss(network: nn.Module, images_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of a classifier."""
    return functional.cross_entropy(network(images_BCHW), labels_B)
