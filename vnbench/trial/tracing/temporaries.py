"""Temporary memory of CUDA operators, as far as torch's source code determines it.

Workspaces that cuDNN or cuBLAS choose are not included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from vnbench.trial.tracing.accounts import layout_of_convolution

aten = torch.ops.aten

FLASH_ROWS = 128
"""The backward pass of flash attention rounds the number of queries up to a multiple of this."""

FP32_BYTES = 4


def temporaries(operator: Any, args: Sequence[Any]) -> list[int]:
    """Return the bytes of each block that an operator allocates at its start and frees at its end."""
    found = TEMPORARIES.get(operator)
    return [] if found is None else [num_bytes for num_bytes in found(args) if num_bytes]


def _of_convolution(args: Sequence[Any]) -> list[int]:
    x, weight, *_ = args
    return _copies([x, weight], layout_of_convolution(x, weight))


def _of_convolution_backward(args: Sequence[Any]) -> list[int]:
    dy, x, weight, *_ = args
    return _copies([dy, x, weight], layout_of_convolution(x, weight))


def _copies(tensors: Sequence[Tensor], layout: torch.memory_format) -> list[int]:
    """Return the bytes of copies of tensors whose layout differs from the one that a convolution needs.

    Source: aten/src/ATen/native/Convolution.cpp, ``contiguous(backend_memory_format)``; in the backward pass the copies
    live to its end.
    """
    return [
        tensor.numel() * tensor.element_size() for tensor in tensors if not tensor.is_contiguous(memory_format=layout)
    ]


def _of_flash_backward(args: Sequence[Any]) -> list[int]:
    """Return the bytes of a number per query and of their gradient in fp32 (flash_attn/flash_api.cpp, mha_bwd)."""
    query = args[1]
    num_examples, num_heads, num_queries, head_dim = query.shape
    rows = num_examples * num_heads * _up(num_queries, FLASH_ROWS)
    return [rows * FP32_BYTES, rows * _up(head_dim, 32 if head_dim <= 128 else 64) * FP32_BYTES]


def _of_efficient_backward(args: Sequence[Any]) -> list[int]:
    """Return the bytes of the gradient of 16-bit queries in fp32; for fp32 queries, of a product and its sum per query.

    Source: aten/src/ATen/native/transformers/cuda/attention_backward.cu, _efficient_attention_backward.
    """
    dy, query = args[0], args[1]
    if query.dtype == torch.float32:
        return [dy.numel() * FP32_BYTES, prod(dy.shape[:-1]) * FP32_BYTES]
    return [query.numel() * FP32_BYTES]


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


TEMPORARIES: Mapping[Any, Callable[[Sequence[Any]], list[int]]] = {
    aten.convolution.default: _of_convolution,
    aten.convolution_backward.default: _of_convolution_backward,
    aten._scaled_dot_product_flash_attention_backward.default: _of_flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _of_efficient_backward,
}
