"""GroupNorm from torch's reductions, which spreads its statistics over all multiprocessors for any number of groups.

torch's CUDA kernel reduces each group of an example in one thread block, so that one image with one or two groups uses
one or two multiprocessors. Here each row of a map is reduced separately, then the one number per row; a pointwise pass
normalizes. The backward pass works in the same way. It keeps the input in its own precision, and two numbers per group.

Shape suffixes:
    B  examples of the micro-batch
    C  channels
    G  groups
    K  channels of a group
    H  height, in pixels
    W  width, in pixels
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def split_group_norm(
    x_BCHW: Tensor,
    *,
    weight_C: Tensor,
    bias_C: Tensor,
    num_groups: int,
    epsilon: float,
    dtype: torch.dtype,
    mask_B1HW: Tensor | None = None,
) -> Tensor:
    """Return the normalized map in ``dtype``, with the memory layout of ``x_BCHW``.

    Statistics are in fp32, or in float64 for a float64 map. With a mask, they are those of the pixels where the mask is
    True, and all other pixels become 0. Every example needs such a pixel.
    """
    y_BCHW: Tensor = _SplitGroupNorm.apply(  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        x_BCHW, weight_C, bias_C, mask_B1HW, num_groups, epsilon, dtype
    )
    return y_BCHW


class _SplitGroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        mask_B1HW: Tensor | None,
        num_groups: int,
        epsilon: float,
        dtype: torch.dtype,
    ) -> Tensor:
        wide = _wide(x_BCHW.dtype)
        weight_GK, bias_GK = (one.to(wide).reshape(num_groups, -1) for one in (weight_C, bias_C))
        if mask_B1HW is None:
            mean_BG1, variance_BG1 = _moments(x_BCHW, num_groups)
            slope_BGK = torch.rsqrt(variance_BG1 + epsilon) * weight_GK
            # ``out`` reads and writes a reduced map once; without it the result would be a wide map.
            y_BCHW = torch.empty_like(x_BCHW, dtype=dtype)
            torch.addcmul(_on_maps(bias_GK - mean_BG1 * slope_BGK), x_BCHW, _on_maps(slope_BGK), out=y_BCHW)
        else:
            mean_BG1, variance_BG1, centred_BCHW = _masked_moments(x_BCHW, mask_B1HW, num_groups)
            slope_BGK = torch.rsqrt(variance_BG1 + epsilon) * weight_GK
            y_BCHW = centred_BCHW if dtype == wide else torch.empty_like(x_BCHW, dtype=dtype)
            torch.addcmul(_on_maps(bias_GK[None]), centred_BCHW, _on_maps(slope_BGK), out=y_BCHW)
            y_BCHW.masked_fill_(~mask_B1HW, 0)
        ctx.save_for_backward(x_BCHW, weight_C, mean_BG1, torch.rsqrt(variance_BG1 + epsilon), mask_B1HW)
        return y_BCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the map and of the parameters.

        The statistics of a group depend on its pixels, so the gradient of a pixel is a factor times the gradient of its
        output, plus a factor times the pixel, plus a constant (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3,
        rearranged).
        """
        x_BCHW, weight_C, mean_BG1, rstd_BG1, mask_B1HW = ctx.saved_tensors
        wide, num_groups = mean_BG1.dtype, mean_BG1.shape[1]
        weight_GK = weight_C.to(wide).reshape(num_groups, -1)
        product_BCHW = _product(dy_BCHW, x_BCHW)
        if mask_B1HW is None:
            count: Tensor | int = x_BCHW[0].numel() // num_groups
            sum_BGK = _sums(dy_BCHW, num_groups, wide)
        else:
            count = _counts(mask_B1HW, weight_GK.shape[1], wide)
            sum_BGK = _sums(dy_BCHW.masked_fill(~mask_B1HW, 0), num_groups, wide)
            product_BCHW.masked_fill_(~mask_B1HW, 0)
        product_sum_BGK = _sums(product_BCHW, num_groups, wide)
        del product_BCHW  # free a whole map before the result is allocated
        weighted_BG1 = (sum_BGK * weight_GK).sum(2, keepdim=True)
        weighted_product_BG1 = (product_sum_BGK * weight_GK).sum(2, keepdim=True)
        of_x_BG1 = (weighted_BG1 * mean_BG1 - weighted_product_BG1) * rstd_BG1**3 / count
        constant_BG1 = -of_x_BG1 * mean_BG1 - weighted_BG1 * rstd_BG1 / count
        dx_BCHW = torch.empty_like(x_BCHW)
        ones_GK = torch.ones_like(weight_GK)
        torch.addcmul(_on_maps(constant_BG1 * ones_GK), x_BCHW, _on_maps(of_x_BG1 * ones_GK), out=dx_BCHW)
        dx_BCHW.addcmul_(dy_BCHW, _on_maps(rstd_BG1 * weight_GK))
        if mask_B1HW is not None:
            dx_BCHW.masked_fill_(~mask_B1HW, 0)
        dweight_GK = ((product_sum_BGK - mean_BG1 * sum_BGK) * rstd_BG1).sum(0)
        return (
            dx_BCHW,
            dweight_GK.flatten().to(weight_C.dtype),
            sum_BGK.sum(0).flatten().to(weight_C.dtype),
            *[None] * 4,
        )


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the statistics: fp32 for a reduced precision, else that of the map."""
    return torch.promote_types(dtype, torch.float32)


def _moments(x_BCHW: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Return mean_BG1 and the biased variance_BG1.

    A map in fp32 or more takes one pass that stays accurate for a large mean: the mean of the rows' variances plus the
    variance of their means (Chan et al. 1979, equation 1.5). That pass would round the variance of a reduced map to its
    precision, so there sums and sums of squares in fp32 are used. With a large mean their difference loses its last
    bits, but rounding the map itself has already cost the variance as many.
    """
    wide = _wide(x_BCHW.dtype)
    if x_BCHW.dtype == wide:
        variance_BCH, mean_BCH = torch.var_mean(x_BCHW, dim=3, correction=0)
        between_BG1, mean_BG1 = torch.var_mean(_by_group(mean_BCH, num_groups), dim=2, correction=0, keepdim=True)
        return mean_BG1, between_BG1 + _by_group(variance_BCH, num_groups).mean(2, keepdim=True)
    width = x_BCHW.shape[3]
    mean_BG1 = _by_group(x_BCHW.sum(3, dtype=wide), num_groups).mean(2, keepdim=True) / width
    norm_BCH = torch.linalg.vector_norm(x_BCHW, dim=3, dtype=wide)
    square_BG1 = _by_group(norm_BCH.square(), num_groups).mean(2, keepdim=True) / width
    return mean_BG1, (square_BG1 - mean_BG1.square()).clamp_min(0)


def _masked_moments(x_BCHW: Tensor, mask_B1HW: Tensor, num_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean_BG1 and variance_BG1 of the pixels in the mask, and the map minus the mean, 0 outside the mask."""
    wide = _wide(x_BCHW.dtype)
    outside_B1HW = ~mask_B1HW
    num_channels = x_BCHW.shape[1] // num_groups
    counts_B11 = _counts(mask_B1HW, num_channels, wide)
    sum_BGK = _sums(x_BCHW.masked_fill(outside_B1HW, 0), num_groups, wide)
    mean_BG1 = sum_BGK.sum(2, keepdim=True) / counts_B11
    centred_BCHW = (x_BCHW - _on_maps(mean_BG1.expand(-1, -1, num_channels))).masked_fill_(outside_B1HW, 0)
    square_BCH = torch.linalg.vector_norm(centred_BCHW, dim=3).square()
    return mean_BG1, _by_group(square_BCH, num_groups).sum(2, keepdim=True) / counts_B11, centred_BCHW


def _product(dy_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return the product of two maps, in fp32 if a gradient could underflow to 0, as in fp16.

    bf16 has the exponents of fp32. Its rounding error is that of the gradient times the ratio of the map's mean to its
    standard deviation.
    """
    if dy_BCHW.dtype == x_BCHW.dtype and torch.finfo(x_BCHW.dtype).tiny > torch.finfo(torch.float32).tiny:
        return torch.addcmul(dy_BCHW.new_zeros((1, 1, 1, 1), dtype=torch.float32), dy_BCHW, x_BCHW)
    return dy_BCHW * x_BCHW


def _sums(x_BCHW: Tensor, num_groups: int, dtype: torch.dtype) -> Tensor:
    """Return the sum of each channel, sum_BGK, first within rows, then over rows."""
    return x_BCHW.sum(3, dtype=dtype).sum(2).reshape(len(x_BCHW), num_groups, -1)


def _counts(mask_B1HW: Tensor, num_channels: int, dtype: torch.dtype) -> Tensor:
    """Return counts_B11, the number of values inside the mask in a group of ``num_channels`` channels."""
    return mask_B1HW.sum((1, 2, 3))[:, None, None].to(dtype) * num_channels


def _by_group(x_BCH: Tensor, num_groups: int) -> Tensor:
    """Return one number per channel and row as x_BGN, with those of a group together."""
    return x_BCH.reshape(len(x_BCH), num_groups, -1)


def _on_maps(x_BGK: Tensor) -> Tensor:
    """Return one number per channel as x_BC11, which broadcasts over a map."""
    return x_BGK.flatten(1)[:, :, None, None]
