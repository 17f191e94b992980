"""The attention kernel that a card would run, chosen and prepared as in torch's C++ code.

Sources: aten/src/ATen/native/transformers/attention.cpp (preparation of masks and heads) and cuda/sdp_utils.cpp (the
choice). Torch prefers flash, then memory-efficient, then mathematical attention. On Hopper and data-centre Blackwell
cuDNN comes first if it is allowed (``torch.backends.cuda.enable_cudnn_sdp``), which it is not in trials. The kernels
have fake versions, so a CPU suffices to trace them.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vnbench.records.step_trace import Capability

aten = torch.ops.aten

Backend = Literal["cudnn", "flash", "efficient", "math"]

MAX_FLASH_HEAD_DIM = 256
FLASH_GAP = range(193, 225)
"""Head dimensions with which the flash kernel cannot train on the cards in SMALL_SHARED."""

SMALL_SHARED: tuple[Capability, ...] = ((8, 6), (8, 9), (12, 0), (12, 1))
"""Cards whose multiprocessors have less shared memory than those of data-centre cards."""

MAX_CUDNN_HEAD_DIM = 128
HEAD_ALIGNMENT = 8
"""The flash kernel needs head dimensions that are multiples of this; others are padded."""

MASK_ALIGNMENT = 8
"""The memory-efficient kernel needs mask rows whose length is a multiple of this; others are padded."""

CUDNN_FIRST: tuple[Capability, ...] = ((9, 0), (10, 0))
"""Cards on which torch 2.11 and later try cuDNN first."""


def attention_backend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, capability: Capability, *, may_use_cudnn: bool
) -> Backend:
    """Return the attention kernel on a card for queries, keys and values of shape (B, heads, N, head_dim)."""
    head_dim, value_dim = query.shape[-1], value.shape[-1]
    dtypes = {query.dtype, key.dtype, value.dtype}
    is_half = dtypes <= {torch.float16, torch.bfloat16} and len(dtypes) == 1
    is_dense = query.dim() == 4 and 0 not in (*query.shape, *key.shape)
    is_mask_constant = mask is None or not mask.requires_grad
    if not is_dense:
        return "math"
    if (
        may_use_cudnn
        and capability in CUDNN_FIRST
        and is_half
        and is_mask_constant
        and max(head_dim, value_dim) <= MAX_CUDNN_HEAD_DIM
        and head_dim % HEAD_ALIGNMENT == value_dim % HEAD_ALIGNMENT == 0
    ):
        return "cudnn"
    if (
        mask is None
        and is_half
        and capability >= (8, 0)
        and head_dim == value_dim <= MAX_FLASH_HEAD_DIM
        and not (capability in SMALL_SHARED and head_dim in FLASH_GAP)
    ):
        return "flash"
    is_supported = (
        query.shape[1] == key.shape[1]
        and len(dtypes) == 1
        and (
            query.dtype == torch.float32
            or query.dtype == torch.float16
            or (query.dtype == torch.bfloat16 and capability >= (8, 0))
        )
    )
    alignment = _gemm_alignment(capability, is_half=is_half)
    if is_supported and head_dim % alignment == 0 and value_dim % alignment == 0:
        return "efficient"
    return "math"


def _gemm_alignment(capability: Capability, *, is_half: bool) -> int:
    """Return the number of which head dimensions must be multiples for the memory-efficient kernel."""
    if capability >= (7, 0) and is_half:
        return 8
    return 4 if capability >= (8, 0) else 1


class CudaAttention:
    """``scaled_dot_product_attention`` with the kernel that a card would run."""

    def __init__(self, capability: Capability) -> None:
        self._capability = capability

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Return the result of torch's ``scaled_dot_product_attention``, with its arguments."""
        may_use_cudnn = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]  # torch 2.13
        backend = attention_backend(query, key, value, attn_mask, self._capability, may_use_cudnn=may_use_cudnn)
        is_saved = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = _additive(attn_mask, query.dtype)
        result: Tensor
        if backend == "math":
            result, _ = aten._scaled_dot_product_attention_math(
                query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
            )
        elif backend == "cudnn":
            result = aten._scaled_dot_product_cudnn_attention(
                query, key, value, attn_mask, is_saved, dropout_p, is_causal, False, scale=scale
            )[0]
        elif backend == "flash":
            head_dim = query.shape[-1]
            padded = [_padded(tensor, HEAD_ALIGNMENT) for tensor in (query, key, value)]
            scale = 1 / math.sqrt(head_dim) if scale is None else scale
            result = aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, False, scale=scale)[0]
            result = result[..., :head_dim] if result.shape[-1] != head_dim else result
        else:
            if attn_mask is not None:
                attn_mask = _aligned(attn_mask).expand(*query.shape[:3], key.shape[2])
            result = aten._scaled_dot_product_efficient_attention(
                query, key, value, attn_mask, is_saved, dropout_p, is_causal, scale=scale
            )[0]
        return result


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask to add to scores: 0 where attention is allowed, else -inf."""
    return torch.where(mask, aten.scalar_tensor(0.0, dtype=dtype, device=mask.device), -math.inf)


def _padded(tensor: Tensor, alignment: int) -> Tensor:
    """Return a tensor padded to a row length that is a multiple of ``alignment``."""
    missing = -tensor.shape[-1] % alignment
    return F.pad(tensor, (0, missing)) if missing else tensor


def _aligned(mask: Tensor) -> Tensor:
    """Return a mask whose rows start at multiples of MASK_ALIGNMENT."""
    if mask.stride(-1) == 1 and all(stride % MASK_ALIGNMENT == 0 for stride in mask.stride()[:-1]):
        return mask
    length = mask.shape[-1]
    return F.pad(mask, (0, MASK_ALIGNMENT - length % MASK_ALIGNMENT))[..., :length]
