"""Segmentation networks with published memory figures, re-implemented from their papers and configurations.

Each uses torch alone and is built as it was trained: with batch normalisation instead of its synchronised form,
in-place activations and an auxiliary head where the original had them, and logits resized to the labels before the
loss. Feature maps are (B, C, H, W).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

RATES = (1, 12, 24, 36)
"""Dilation rates of DeepLabV3's pyramid."""

POOLS = (1, 2, 3, 6)
"""Side lengths of PSPNet's pooled maps."""


def conv_bn(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and in-place ReLU; the map keeps its size except for the stride."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map resized by bilinear interpolation."""
    return functional.interpolate(x, size=list(size), mode="bilinear", align_corners=False)


class OlderSoftmax(torch.autograd.Function):
    """Softmax with the gradient of torch before 1.11, which kept the whole input (tools/autograd/derivatives.yaml)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, is_log: bool) -> Tensor:
        """Return the softmax along a dimension, or its logarithm."""
        y = x.log_softmax(dim) if is_log else x.softmax(dim)
        ctx.save_for_backward(x, y)
        ctx.dim, ctx.is_log = dim, is_log
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the input."""
        x, y = ctx.saved_tensors
        of = torch._log_softmax_backward_data if ctx.is_log else torch._softmax_backward_data
        return of(gradients[0], y, ctx.dim, x.dtype), None, None


def older_softmax(x: Tensor, *, dim: int, is_log: bool = False) -> Tensor:
    """Return the softmax along a dimension, or its logarithm, with the memory of older versions' backward pass."""
    y: Tensor = OlderSoftmax.apply(x, dim, is_log)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return y


class FcnHead(nn.Module):
    """Convolutions and a classifier; the input may be concatenated with the output (Long et al. 2015)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        classes: int,
        *,
        convs: int,
        concatenates: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * convs]
        self.convs = nn.Sequential(*(conv_bn(a, b, 3, dilation=dilation) for a, b in itertools.pairwise(widths)))
        self.joined = conv_bn(in_channels + channels, channels, 3) if concatenates else None
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the map's size."""
        y = self.convs(x)
        if self.joined is not None:
            y = self.joined(torch.cat([x, y], dim=1))
        logits: Tensor = self.classify(y)
        return logits


class PyramidHead(nn.Module):
    """Concatenated branches over one map, pooled (Zhao et al. 2017) or dilated (Chen et al. 2017)."""

    def __init__(
        self, in_channels: int, channels: int, classes: int, *, branches: Sequence[nn.Module], keeps: bool
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.keeps = keeps
        joined = len(branches) * channels + (in_channels if keeps else 0)
        self.joined = conv_bn(joined, channels, 3)
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(channels, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the map's size."""
        found = [
            resized(y, x.shape[2:]) if y.shape[2:] != x.shape[2:] else y for y in (one(x) for one in self.branches)
        ]
        logits: Tensor = self.classify(self.joined(torch.cat([x, *found] if self.keeps else found, dim=1)))
        return logits


def psp_head(in_channels: int, channels: int, classes: int) -> PyramidHead:
    """Return PSPNet's head."""
    branches = [nn.Sequential(nn.AdaptiveAvgPool2d(side), conv_bn(in_channels, channels, 1)) for side in POOLS]
    return PyramidHead(in_channels, channels, classes, branches=branches, keeps=True)


def aspp_head(in_channels: int, channels: int, classes: int) -> PyramidHead:
    """Return DeepLabV3's head."""
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(in_channels, channels, 1))
    dilated = [conv_bn(in_channels, channels, 1 if rate == 1 else 3, dilation=rate) for rate in RATES]
    return PyramidHead(in_channels, channels, classes, branches=[pooled, *dilated], keeps=False)


class UNet(nn.Module):
    """Five stages of two convolutions, 64 to 1,024 channels, and four decoder stages (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64 * 2**stage for stage in range(5)]
        self.down = nn.ModuleList(
            nn.Sequential(conv_bn(a, b, 3), conv_bn(b, b, 3)) for a, b in zip([3, *widths], widths, strict=False)
        )
        self.halve = nn.MaxPool2d(2)
        self.narrow = nn.ModuleList(conv_bn(2 * width, width, 1) for width in reversed(widths[:-1]))
        self.up = nn.ModuleList(
            nn.Sequential(conv_bn(2 * width, width, 3), conv_bn(width, width, 3)) for width in reversed(widths[:-1])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the decoder, from the deepest one to the one of the input's size."""
        skips = []
        for number, stage in enumerate(self.down):
            x = stage(self.halve(x) if number else x)
            skips.append(x)
        maps = [x]
        for narrow, stage, skip in zip(self.narrow, self.up, reversed(skips[:-1]), strict=True):
            x = narrow(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
            x = stage(torch.cat([skip, x], dim=1))
            maps.append(x)
        return maps


class Residual(nn.Module):
    """A residual block of two 3 x 3 convolutions, or a bottleneck block of three (He et al. 2016)."""

    def __init__(self, in_channels: int, width: int, *, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = width * expansion
        if expansion == 1:
            layers = [conv_bn(in_channels, width, 3, stride=stride, dilation=dilation), conv_bn(width, width, 3)[:2]]
        else:
            layers = [
                conv_bn(in_channels, width, 1),
                conv_bn(width, width, 3, stride=stride, dilation=dilation),
                conv_bn(width, out_channels, 1)[:2],
            ]
        self.layers = nn.Sequential(*layers)
        is_same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if is_same else conv_bn(in_channels, out_channels, 1, stride=stride)[:2]
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.layers(x)
        y += self.shortcut(x)
        found: Tensor = self.relu(y)
        return found


class ResNet(nn.Module):
    """A residual network with a stem of three 3 x 3 convolutions; late stages may be dilated instead of strided."""

    def __init__(self, depth: int, *, strides: Sequence[int], dilations: Sequence[int]) -> None:
        super().__init__()
        expansion = 1 if depth < 50 else 4
        numbers = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
        self.stem = nn.Sequential(conv_bn(3, 32, 3, stride=2), conv_bn(32, 32, 3), conv_bn(32, 64, 3))
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages = []
        channels = 64
        for number, (blocks, stride, dilation) in enumerate(zip(numbers, strides, dilations, strict=True)):
            width = 64 * 2**number
            # The first block of a newly dilated stage has half the dilation.
            first = dilation // 2 if dilation > 1 else dilation
            stage = [Residual(channels, width, expansion=expansion, stride=stride, dilation=first)]
            channels = width * expansion
            stage += [
                Residual(channels, width, expansion=expansion, stride=1, dilation=dilation) for _ in range(blocks - 1)
            ]
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage."""
        x = self.pool(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class DropPath(nn.Module):
    """Drops the branch for some examples (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, with zeros for some examples."""
        if self.rate == 0.0:
            return x
        kept = 1 - self.rate
        mask = (kept + torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), dtype=x.dtype, device=x.device)).floor()
        found: Tensor = x.div(kept) * mask
        return found


class ReducedAttention(nn.Module):
    """Attention of all tokens to a map reduced by a ratio, with plain matrix products (Xie et al. 2021)."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads, self.ratio = heads, ratio
        self.queries, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.reduce = nn.Conv2d(width, width, ratio, ratio) if ratio > 1 else None
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the tokens (B, N, C) of a map of ``size``."""
        batch, tokens, width = x.shape
        y = x
        if self.reduce is not None:
            y = self.norm(self.reduce(x.transpose(1, 2).reshape(batch, width, *size)).flatten(2).transpose(1, 2))

        def split(z: Tensor) -> Tensor:
            return z.view(batch, -1, self.heads, width // self.heads).transpose(1, 2).flatten(0, 1)

        q, k, v = split(self.queries(x)), split(self.keys(y)), split(self.values(y))
        weights = older_softmax(torch.bmm(q / math.sqrt(width // self.heads), k.transpose(1, 2)), dim=-1)
        mixed = torch.bmm(weights, v).view(batch, self.heads, tokens, -1).transpose(1, 2).reshape(batch, tokens, width)
        found: Tensor = self.out(mixed)
        return found


class MixBlock(nn.Module):
    """A transformer block with a depthwise convolution in its hidden layer (Xie et al. 2021)."""

    def __init__(self, width: int, heads: int, ratio: int, drop: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = ReducedAttention(width, heads, ratio)
        self.widen, self.narrow = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the tokens (B, N, C) of a map of ``size``."""
        x = x + self.drop(self.attention(self.first(x), size))
        y = self.second(x).transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)
        y = self.narrow(functional.gelu(self.depthwise(self.widen(y))))
        mixed: Tensor = x + self.drop(y.flatten(2).transpose(1, 2))
        return mixed


class MixTransformer(nn.Module):
    """SegFormer's encoder: four stages of tokens, each map smaller than the one before."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        drops = torch.linspace(0, 0.1, sum(depths), device="cpu").tolist()
        self.patches = nn.ModuleList(
            nn.Conv2d(a, b, kernel, stride, kernel // 2)
            for a, b, kernel, stride in zip([3, *widths], widths, (7, 3, 3, 3), (4, 2, 2, 2), strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.ends = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.stages = nn.ModuleList(
            nn.ModuleList(MixBlock(width, heads, ratio, drops.pop(0)) for _ in range(depth))
            for width, depth, heads, ratio in zip(widths, depths, (1, 2, 5, 8), (8, 4, 2, 1), strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage."""
        maps = []
        for patch, norm, blocks, end in zip(self.patches, self.norms, self.stages, self.ends, strict=True):
            x = patch(x)
            size = (x.shape[2], x.shape[3])
            tokens = norm(x.flatten(2).transpose(1, 2))
            for block in blocks:  # type: ignore[attr-defined]  # a list of modules
                tokens = block(tokens, size)
            x = end(tokens).transpose(1, 2).reshape(x.shape[0], -1, *size).contiguous()
            maps.append(x)
        return maps


class SegFormerHead(nn.Module):
    """Concatenates the maps of all stages at one width and size."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.equal = nn.ModuleList(conv_bn(width, 256, 1) for width in widths)
        self.joined = conv_bn(4 * 256, 256, 1)
        self.classify = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits of the first map's size."""
        found = [resized(one(x), maps[0].shape[2:]) for one, x in zip(self.equal, maps, strict=True)]
        logits: Tensor = self.classify(self.joined(torch.cat(found, dim=1)))
        return logits


class Segmenter(nn.Module):
    """A backbone with one head or two, trained by cross-entropy at the size of the labels."""

    def __init__(
        self, backbone: nn.Module, heads: Sequence[tuple[nn.Module, Callable[[list[Tensor]], object], float]]
    ) -> None:
        """Each of ``heads`` is a head, the maps that it takes, and the weight of its loss."""
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(head for head, _, _ in heads)
        self._takes = [(take, weight) for _, take, weight in heads]

    def loss(self, images_BCHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """Return the summed loss of the heads."""
        maps = self.backbone(images_BCHW)
        losses = []
        for head, (take, weight) in zip(self.heads, self._takes, strict=True):
            logits_BKHW = resized(head(take(maps)), labels_BHW.shape[1:])
            logs_BKHW = older_softmax(logits_BKHW, dim=1, is_log=True)
            each_BHW = functional.nll_loss(logs_BKHW, labels_BHW, reduction="none", ignore_index=255)
            losses.append(weight * each_BHW.mean())
        return torch.stack(losses).sum()


def unet(head: str) -> Segmenter:
    """Return the U-Net of five stages with one of three heads, and FCN's head as the auxiliary one."""
    heads: dict[str, Callable[[], nn.Module]] = {
        "fcn": lambda: FcnHead(64, 64, 2, convs=1),
        "psp": lambda: psp_head(64, 16, 2),
        "aspp": lambda: aspp_head(64, 16, 2),
    }
    return Segmenter(
        UNet(),
        [(heads[head](), lambda maps: maps[4], 1.0), (FcnHead(128, 64, 2, convs=1), lambda maps: maps[3], 0.4)],
    )


def fcn(
    depth: int, *, strides: Sequence[int] = (1, 2, 1, 1), dilations: Sequence[int] = (1, 1, 2, 4), rate: int = 1
) -> Segmenter:
    """Return FCN on a residual network of stride 8 or 16, for the 19 classes of Cityscapes."""
    last = 512 if depth < 50 else 2048
    return Segmenter(
        ResNet(depth, strides=strides, dilations=dilations),
        [
            (FcnHead(last, last // 4, 19, convs=2, concatenates=True, dilation=rate), lambda maps: maps[3], 1.0),
            (FcnHead(last // 2, last // 8, 19, convs=1, dilation=rate), lambda maps: maps[2], 0.4),
        ],
    )


SEGFORMERS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "B0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "B1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "B2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "B3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "B4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "B5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
"""Widths and depths of SegFormer's encoders (Xie et al. 2021, table 6)."""


def segformer(name: str, classes: int) -> Segmenter:
    """Return SegFormer with one of its encoders."""
    widths, depths = SEGFORMERS[name]
    return Segmenter(MixTransformer(widths, depths), [(SegFormerHead(widths, classes), lambda maps: maps, 1.0)])
