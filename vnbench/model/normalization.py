"""Normalization with an explicit compute precision and number of groups, independent of autocast.

CUDA autocast runs GroupNorm and LayerNorm in fp32 and returns fp32, CPU autocast keeps the precision of their input,
and a trace on fake tensors may follow either. The layers here disable autocast around the norm and convert explicitly,
so that all three agree and the precision is a lever that can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.model.split_norm import split_group_norm
from vnbench.records.spec.words import NormKernel, NormPrecision

HALF_OR_16 = "half-or-16"

EPSILON = 1e-5
"""Added to the variance; PyTorch's default for both norms. Kernels add it before they round to a reduced precision."""


def num_groups(channels: int, rule: str) -> int:
    """Return the number of groups for a GroupNorm over ``channels``; it divides ``channels``.

    ``half-or-16`` puts ``max(channels / 2, 16)`` channels into a group, but never more than there are: one group below
    32 channels, two from 32 on. A number is the desired number of groups, limited to ``channels``. If the desired
    number does not divide ``channels``, the largest smaller divisor is used.

    Raises:
        ValueError: ``channels`` is not positive, or ``rule`` is neither ``half-or-16`` nor a positive number.
    """
    if channels < 1:
        raise ValueError(f"channels {channels}: must be at least 1")
    if rule == HALF_OR_16:
        # channels / max(channels / 2, 16), rounded down to at least one group.
        wanted = max(min(2, channels // 16), 1)
    elif rule.isdecimal() and int(rule) > 0:
        wanted = min(int(rule), channels)
    else:
        raise ValueError(f"norm_groups {rule!r}: must be {HALF_OR_16} or a positive number of groups")
    return next(groups for groups in range(wanted, 0, -1) if channels % groups == 0)


def compute_dtype(input_dtype: torch.dtype, precision: NormPrecision) -> torch.dtype:
    """Return the dtype that a norm computes in and returns: ``fp32`` means at least fp32, so float64 stays float64."""
    return input_dtype if precision == "input" else torch.promote_types(input_dtype, torch.float32)


class ExplicitGroupNorm(nn.Module):
    """GroupNorm (Wu and He 2018, arXiv 1803.08494) in a given precision, with a weight and a bias per channel.

    ``fp32`` does the same as CUDA autocast: the input is converted to fp32 and kept in fp32 for the backward pass, and
    the output is fp32. ``input`` computes in the dtype of its input. The parameters are converted to it, because the
    CUDA kernel takes a single dtype; kernels still accumulate in fp32, but round mean and variance to that dtype.

    The kernel ``split`` is vnbench.model.split_norm: its statistics and parameters are always in fp32, ``precision``
    only sets the dtype of the output, and the input is kept unconverted.
    """

    def __init__(
        self, num_channels: int, *, num_groups: int, precision: NormPrecision, kernel: NormKernel = "native"
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_groups {num_groups} must divide num_channels {num_channels}")
        self.num_channels = num_channels
        self.num_groups = num_groups
        self.precision: NormPrecision = precision
        self.kernel: NormKernel = kernel
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x_BCHW: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        """Return the normalized map, (B, C, H, W), in the dtype of ``compute_dtype``.

        With a mask, statistics are those of the pixels where the mask is True, and all other pixels become 0.
        """
        dtype = compute_dtype(x_BCHW.dtype, self.precision)
        with torch.autocast(x_BCHW.device.type, enabled=False):
            if self.kernel == "split":
                return split_group_norm(
                    x_BCHW,
                    weight_C=self.weight,
                    bias_C=self.bias,
                    num_groups=self.num_groups,
                    epsilon=EPSILON,
                    dtype=dtype,
                    mask_B1HW=mask_B1HW,
                )
            if mask_B1HW is not None:
                return self._masked(x_BCHW, mask_B1HW).to(dtype)
            return F.group_norm(x_BCHW.to(dtype), self.num_groups, self.weight.to(dtype), self.bias.to(dtype), EPSILON)

    def _masked(self, x_BCHW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """Return the map normalized over valid pixels alone, always in fp32 or float64.

        It takes two passes, because the difference of large sums would lose the variance. Every image has a valid
        pixel.
        """
        wide = torch.promote_types(x_BCHW.dtype, torch.float32)
        # The convolution before wrote beyond the image's border; clear that again.
        x_BCHW = torch.where(mask_B1HW, x_BCHW.to(wide), 0)
        shape = x_BCHW.shape
        counts_B11 = mask_B1HW.sum((1, 2, 3)).to(wide)[:, None, None] * (self.num_channels // self.num_groups)
        mean_BG1 = x_BCHW.reshape(shape[0], self.num_groups, -1).sum(2, keepdim=True) / counts_B11
        centred_BCHW = (x_BCHW.reshape(shape[0], self.num_groups, -1) - mean_BG1).reshape(shape)
        centred_BCHW = torch.where(mask_B1HW, centred_BCHW, 0)
        squares_BG1 = centred_BCHW.square().reshape(shape[0], self.num_groups, -1).sum(2, keepdim=True)
        scale_BG1 = torch.rsqrt(squares_BG1 / counts_B11 + EPSILON)
        scale_BC = scale_BG1.expand(-1, -1, self.num_channels // self.num_groups).reshape(shape[0], -1)
        weight_BC11 = (scale_BC * self.weight.to(wide))[:, :, None, None]
        return torch.where(mask_B1HW, centred_BCHW * weight_BC11 + self.bias.to(wide)[:, None, None], 0)

    def extra_repr(self) -> str:
        """Return the text that ``print(module)`` shows in parentheses."""
        kernel = "" if self.kernel == "native" else f", kernel={self.kernel}"
        return f"{self.num_channels}, num_groups={self.num_groups}, precision={self.precision}{kernel}"


class ExplicitLayerNorm(nn.Module):
    """LayerNorm (Ba et al. 2016, arXiv 1607.06450) over the last dimension, its precision as in ExplicitGroupNorm."""

    def __init__(self, dim: int, *, precision: NormPrecision) -> None:
        super().__init__()
        self.dim = dim
        self.precision: NormPrecision = precision
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the normalized tokens, (B, N, D), in the dtype of ``compute_dtype``."""
        dtype = compute_dtype(x_BND.dtype, self.precision)
        with torch.autocast(x_BND.device.type, enabled=False):
            return F.layer_norm(x_BND.to(dtype), (self.dim,), self.weight.to(dtype), self.bias.to(dtype), EPSILON)

    def extra_repr(self) -> str:
        """Return the text that ``print(module)`` shows in parentheses."""
        return f"{self.dim}, precision={self.precision}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NormConfig:
    """Settings of all norms in a network."""

    groups: str
    """Rule for the groups of GroupNorm: ``half-or-16``, or a number of groups."""
    precision: NormPrecision
    """Precision in which norms compute: ``fp32`` or that of their ``input``."""
    kernel: NormKernel = "native"
    """Implementation of GroupNorm: torch's ``native`` kernel, or ``split`` into reductions."""

    def group_norm(self, num_channels: int) -> ExplicitGroupNorm:
        """Return a GroupNorm over ``num_channels``."""
        groups = num_groups(num_channels, self.groups)
        return ExplicitGroupNorm(num_channels, num_groups=groups, precision=self.precision, kernel=self.kernel)

    def layer_norm(self, dim: int) -> ExplicitLayerNorm:
        """Return a LayerNorm over tokens of ``dim`` features."""
        return ExplicitLayerNorm(dim, precision=self.precision)
