"""Memory that operators of CUDA take for themselves while they run, where torch's own sources say how much.

Workspaces on which cuDNN or cuBLAS decide are not among it.
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
"""Queries in whose multiples the backward pass of flash attention sums up."""

FP32_BYTES = 4


def temporaries(operator: Any, args: Sequence[Any]) -> list[int]:
    """Return the bytes of each block that an operator takes when it begins and returns when it ends."""
    found = TEMPORARIES.get(operator)
    return [] if found is None else [num_bytes for num_bytes in found(args) if num_bytes]


def _of_convolution(args: Sequence[Any]) -> list[int]:
    x, weight, *_ = args
    return _copies([x, weight], layout_of_convolution(x, weight))


def _of_convolution_backward(args: Sequence[Any]) -> list[int]:
    dy, x, weight, *_ = args
    return _copies([dy, x, weight], layout_of_convolution(x, weight))


def _copies(tensors: Sequence[Tensor], layout: torch.memory_format) -> list[int]:
    """Return the bytes of the copies of tensors that are laid out otherwise than a convolution wants them.

    aten/src/ATen/native/Convolution.cpp, ``contiguous(backend_memory_format)``; backward they live to its end.
    """
    return [
        tensor.numel() * tensor.element_size() for tensor in tensors if not tensor.is_contiguous(memory_format=layout)
    ]


def _of_flash_backward(args: Sequence[Any]) -> list[int]:
    """Return the gradient of queries in fp32 and a number per query (flash_attn/flash_api.cpp, mha_bwd)."""
    query = args[1]
    num_examples, num_heads, num_queries, head_dim = query.shape
    rows = num_examples * num_heads * _up(num_queries, FLASH_ROWS)
    return [rows * FP32_BYTES, rows * _up(head_dim, 32 if head_dim <= 128 else 64) * FP32_BYTES]


def _of_efficient_backward(args: Sequence[Any]) -> list[int]:
    """Return the gradient of queries in fp32 for halves; for fp32 the product of which a number per query is the sum.

    aten/src/ATen/native/transformers/cuda/attention_backward.cu, _efficient_attention_backward.
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
