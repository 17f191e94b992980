"""The network under test: VeerNet, a residual U-Net with self-attention at its bottleneck.

This is a re-implementation from descriptions: the authors published no code, and the published accounts leave out most
sizes. From those accounts: one grayscale channel in, five stride-2 stages of residual blocks down, five upsampling
stages up with concatenated skips, a bottleneck of 128 channels refined by two self-attention layers on the flattened
map, and GroupNorm. Our choices: a stem at full resolution, the channels of the other levels, one basic residual block
per encoder stage (two 3x3 convolutions), DECODER_CONVS 3x3 convolutions per decoder stage, nearest upsampling, ReLU, no
dropout, and the attention blocks described in vnbench.model.attention.

Three of our choices limit the effect of padding: convolutions before a norm have no bias, so that zeros stay zeros;
nearest upsampling mixes no pixels; positions depend on the row and column of a token, never on the size of its canvas.
Norms and attention still see padding, except with ``padding="exact"``: then norms use only valid pixels and set the
others to zero, and attention has no keys in the padding, so that the output for an image does not depend on its canvas.
A pixel of a level is valid if any pixel that it covers in the level above is valid.

Shape suffixes:
    B  examples of the micro-batch
    C  channels
    H  height, in pixels of the current map
    W  width, in pixels of the current map
    K  classes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.model.attention import BottleneckAttention
from vnbench.model.normalization import NormConfig
from vnbench.model.recomputation import recomputed, run_part
from vnbench.records.spec.words import ALIGNMENT, Checkpointing, ModelName, NormKernel, NormPrecision, Padding

PRESETS: Mapping[ModelName, tuple[int, ...]] = {
    "veernet": (16, 32, 64, 128, 128, 128),
    "veernet-tiny": (4, 8, 16, 32, 64, 64),
}
"""Channels of each level, from full resolution to the bottleneck at 1/32."""

NUM_STAGES = 5
"""Stride-2 stages down, and upsampling stages up."""

DECODER_CONVS = 2
"""3x3 convolutions of a decoder stage, as in U-Net (Ronneberger et al. 2015, arXiv 1505.04597)."""


def build_model(
    name: ModelName,
    *,
    num_classes: int,
    norm_groups: str,
    norm_precision: NormPrecision,
    checkpointing: Checkpointing,
    padding: Padding = "plain",
    norm_kernel: NormKernel = "native",
) -> VeerNet:
    """Return the preset ``name`` on the CPU in fp32, with weights from torch's global generator.

    Raises:
        ValueError: ``num_classes`` is below 2, or ``norm_groups`` is not a rule.
    """
    return VeerNet(
        PRESETS[name],
        num_classes=num_classes,
        norm=NormConfig(groups=norm_groups, precision=norm_precision, kernel=norm_kernel),
        checkpointing=checkpointing,
        padding=padding,
    )


class VeerNet(nn.Module):
    """Residual encoder, self-attention at the bottleneck, and decoder with skips: maps an image to logits per pixel.

    With ``checkpointing="stages"`` the backward pass recomputes each stage from its input instead of keeping its
    activations. The head then belongs to the last decoder stage, so that its input, a full-resolution map, is not kept
    either. With ``selective`` it recomputes the operators between convolutions, and keeps the results of convolutions
    and matrix products.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        num_classes: int,
        norm: NormConfig,
        checkpointing: Checkpointing,
        padding: Padding = "plain",
    ) -> None:
        super().__init__()
        if len(channels) != NUM_STAGES + 1:
            raise ValueError(f"channels {tuple(channels)}: must be {NUM_STAGES + 1} numbers, one per level")
        if num_classes < 2:
            raise ValueError(f"num_classes {num_classes}: must be at least 2, background included")
        self.checkpointing: Checkpointing = checkpointing
        self.padding: Padding = padding
        self.stem = ConvNormReLU(1, channels[0], norm=norm)
        self.encoder = nn.ModuleList(
            EncoderStage(channels[level], channels[level + 1], norm=norm, checkpointing=checkpointing)
            for level in range(NUM_STAGES)
        )
        self.attention = BottleneckAttention(channels[-1], norm=norm)
        self.decoder = nn.ModuleList(
            DecoderStage(channels[level + 1], channels[level], norm=norm, checkpointing=checkpointing)
            for level in reversed(range(NUM_STAGES))
        )
        self.head = nn.Conv2d(channels[0], num_classes, kernel_size=1)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The parts of the network by name, in the order of the forward pass."""
        return {
            "stem": self.stem,
            **{f"encoder {level}": stage for level, stage in enumerate(self.encoder, start=1)},
            "attention": self.attention,
            **{f"decoder {NUM_STAGES - index}": stage for index, stage in enumerate(self.decoder)},
            "head": self.head,
        }

    def forward(self, images_BCHW: Tensor, valid_BHW: Tensor | None = None) -> Tensor:
        """Return logits, (B, K, H, W), for images, (B, 1, H, W), floating point.

        ``valid_BHW``, bool, is True for pixels of an image; exact padding needs it, plain padding ignores it. The
        logits' dtype is autocast's, or that of the images without autocast.

        Raises:
            ValueError: there is not exactly one channel, H or W is not a positive multiple of ALIGNMENT, or a mask is
                needed and missing.
        """
        shape = tuple(images_BCHW.shape)
        if len(shape) != 4 or shape[1] != 1 or any(side < 1 or side % ALIGNMENT for side in shape[2:]):
            raise ValueError(
                f"images of shape {shape}: must be (B, 1, H, W) with H and W multiples of {ALIGNMENT}; pad the canvas"
            )
        masks = self._masks(valid_BHW)
        x_BCHW = self._run(self.stem, images_BCHW, masks[0])
        skips = []
        for encoder_stage, mask in zip(self.encoder, masks[1:], strict=True):
            skips.append(x_BCHW)
            x_BCHW = self._run(encoder_stage, x_BCHW, mask)
        x_BCHW = self._run(self.attention, x_BCHW, masks[-1])
        for decoder_stage, mask in zip(self.decoder[:-1], masks[-2:0:-1], strict=True):
            x_BCHW = self._run(decoder_stage, x_BCHW, skips.pop(), mask)
        return self._run(self._last_stage_and_head, x_BCHW, skips.pop(), masks[0])

    def _masks(self, valid_BHW: Tensor | None) -> list[Tensor | None]:
        """Return the mask of each level, (B, 1, H, W), as views of the images' mask; None for plain padding.

        An image is at the top left of its canvas, so a pixel of a level covers a valid pixel if the first one it covers
        is.
        """
        if self.padding == "plain":
            return [None] * (NUM_STAGES + 1)
        if valid_BHW is None:
            raise ValueError("exact padding needs valid_BHW, the mask of the images")
        return [valid_BHW[:, None, :: 2**level, :: 2**level] for level in range(NUM_STAGES + 1)]

    def _last_stage_and_head(self, x_BCHW: Tensor, skip_BCHW: Tensor, mask_B1HW: Tensor | None) -> Tensor:
        if self.checkpointing == "selective":
            logits_BKHW: Tensor = self.decoder[-1](x_BCHW, skip_BCHW, mask_B1HW, head=self.head)
        else:
            logits_BKHW = self.head(self.decoder[-1](x_BCHW, skip_BCHW, mask_B1HW))
        return logits_BKHW

    def _run(self, stage: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
        """Return ``stage(*inputs)``, recomputed in the backward pass if the network checkpoints its stages.

        With ``selective``, encoder and decoder stages recompute their parts themselves, so that the maps of a whole
        stage never exist at once.
        """
        if self.checkpointing == "selective" and stage not in (self.stem, self.attention):
            return stage(*inputs)
        return run_part(stage, *inputs, checkpointing=self.checkpointing)


class ConvNorm(nn.Module):
    """A convolution without bias (the norm has one), then GroupNorm."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1, norm: NormConfig
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.norm = norm.group_norm(out_channels)

    def forward(self, x_BCHW: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        """Return a map of ``out_channels`` channels whose sides are divided by the stride; the mask has these sides."""
        return self.finished(self.conv(x_BCHW), mask_B1HW)

    def finished(self, y_BCHW: Tensor, mask_B1HW: Tensor | None) -> Tensor:
        """Return the output of this module, given that of its convolution."""
        normalized_BCHW: Tensor = self.norm(y_BCHW, mask_B1HW)
        return normalized_BCHW


class ConvNormReLU(ConvNorm):
    """ConvNorm, then ReLU."""

    def finished(self, y_BCHW: Tensor, mask_B1HW: Tensor | None) -> Tensor:
        """Return the output of this module, given that of its convolution."""
        # In place: the norm's backward pass needs its input, not its output, so one map less stays alive.
        return super().finished(y_BCHW, mask_B1HW).relu_()


def after(done: ConvNorm, following: nn.Module | None) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return a function from the output of ``done``'s convolution to the output of the module that follows ``done``."""

    def way(y_BCHW: Tensor, mask_B1HW: Tensor | None) -> Tensor:
        y_BCHW = done.finished(y_BCHW, mask_B1HW)
        return y_BCHW if following is None else cast(Tensor, following(y_BCHW))

    return way


class EncoderStage(nn.Module):
    """A basic residual block (He et al. 2015, arXiv 1512.03385, figure 5 left) that halves both sides of its map."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormConfig, checkpointing: Checkpointing = "none"
    ) -> None:
        super().__init__()
        self.is_selective = checkpointing == "selective"
        self.conv1 = ConvNormReLU(in_channels, out_channels, stride=2, norm=norm)
        self.conv2 = ConvNorm(out_channels, out_channels, norm=norm)
        self.shortcut = ConvNorm(in_channels, out_channels, kernel_size=1, stride=2, norm=norm)

    def forward(self, x_BCHW: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        """Return a map of ``out_channels`` channels and half the height and width."""
        if self.is_selective:
            y_BCHW = recomputed(self.conv1.conv, x_BCHW)
            y_BCHW = recomputed(after(self.conv1, self.conv2.conv), y_BCHW, mask_B1HW)
            return recomputed(self._sum, y_BCHW, recomputed(self.shortcut.conv, x_BCHW), mask_B1HW)
        sum_BCHW: Tensor = self.conv2(self.conv1(x_BCHW, mask_B1HW), mask_B1HW)
        # Twice in place: neither a norm nor a sum needs its output in the backward pass.
        sum_BCHW += self.shortcut(x_BCHW, mask_B1HW)
        return sum_BCHW.relu_()

    def _sum(self, y_BCHW: Tensor, shortcut_BCHW: Tensor, mask_B1HW: Tensor | None) -> Tensor:
        """Return the block's output from the outputs of the last convolutions of both branches."""
        y_BCHW = self.conv2.finished(y_BCHW, mask_B1HW)
        y_BCHW += self.shortcut.finished(shortcut_BCHW, mask_B1HW)
        return y_BCHW.relu_()


class DecoderStage(nn.Module):
    """Nearest upsampling by two, concatenation with the encoder's map of that size, and convolutions.

    Both maps keep the precision of the norms' output on every device. Without this, CUDA autocast would always upsample
    in fp32, CPU autocast would not, and only CPU autocast has a rule for concatenation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: NormConfig, checkpointing: Checkpointing = "none"
    ) -> None:
        super().__init__()
        self.is_selective = checkpointing == "selective"
        self.convs = nn.ModuleList(
            ConvNormReLU(in_channels + out_channels if index == 0 else out_channels, out_channels, norm=norm)
            for index in range(DECODER_CONVS)
        )

    def forward(
        self,
        x_BCHW: Tensor,
        skip_BCHW: Tensor,
        mask_B1HW: Tensor | None = None,
        *,
        head: nn.Module | None = None,
    ) -> Tensor:
        """Return a map with the shape of ``skip_BCHW``, whose sides are twice those of ``x_BCHW``.

        A selective stage can take the head: it then returns the head's output, and the map before it is not kept.
        """
        if self.is_selective:
            convs = [cast(ConvNorm, conv) for conv in self.convs]
            y_BCHW = recomputed(lambda *maps: cast(Tensor, convs[0].conv(self._joined(*maps))), x_BCHW, skip_BCHW)
            for done, following in pairwise(convs):
                y_BCHW = recomputed(after(done, following.conv), y_BCHW, mask_B1HW)
            return recomputed(after(convs[-1], head), y_BCHW, mask_B1HW)
        y_BCHW = self._joined(x_BCHW, skip_BCHW)
        for conv in self.convs:
            y_BCHW = conv(y_BCHW, mask_B1HW)
        return y_BCHW

    def _joined(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        with torch.autocast(x_BCHW.device.type, enabled=False):
            upsampled_BCHW = F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")
            return torch.cat((upsampled_BCHW, skip_BCHW.to(x_BCHW.dtype)), dim=1)
