"""CUDA's rules for tensors on the CPU: autocast, and the implementations of operators that differ on CUDA.

They replace the CPU's rules in torch's dispatcher, so they apply to any network, however it calls an operator. They
work only with fake tensors, because the CPU lacks these kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.records.step_trace import Capability
from vnbench.trial.step.network_errors import NoRuleError
from vnbench.trial.tracing.attention_rules import CudaAttention
from vnbench.trial.tracing.autocast_rules import cuda_autocast
from vnbench.trial.tracing.dispatcher import registered

aten = torch.ops.aten

RECURRENT = tuple(
    f"{layer}.{arguments}" for layer in ("lstm", "gru", "rnn_tanh", "rnn_relu") for arguments in ("input", "data")
)
"""Operators that run in cuDNN on CUDA, which keeps a buffer of unknown size."""


CUDNN_NORM_DTYPES = ({torch.float32}, {torch.float64}, {torch.float16, torch.float32})
"""Dtypes of a map and its parameters that cuDNN's BatchNorm takes."""


@contextmanager
def cuda_rules(capability: Capability) -> Iterator[None]:
    """Return a context in which fake tensors on the CPU are treated as on a card of this compute capability."""
    ways: Mapping[str, Callable[..., Any]] = {
        "scaled_dot_product_attention": CudaAttention(capability),
        "group_norm": _group_norm,
        "batch_norm": _batch_norm,
        "dropout": _dropout,
        "softmax.int": partial(_softmax, aten._softmax),
        "log_softmax.int": partial(_softmax, aten._log_softmax),
        **{name: partial(_refuse_recurrent, name) for name in RECURRENT},
    }
    with registered("AutogradCPU", ways), cuda_autocast():
        yield


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Return a GroupNorm whose kernel takes only contiguous maps (aten/src/ATen/native/group_norm.cpp)."""
    pixels = x[0, 0].numel()
    normalized: Tensor = aten.native_group_norm(
        x.contiguous(), weight, bias, x.shape[0], x.shape[1], pixels, num_groups, eps
    )[0]
    return normalized


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """Return a BatchNorm by the kernel that it has (aten/src/ATen/native/Normalization.cpp): cuDNN's wants a dense map.

    cuDNN takes no bf16, and with fp16 only parameters in fp32. Its limits on the number of examples are not looked at.
    """
    parameters = [one for one in (weight, bias) if one is not None]
    takes_dtype = {x.dtype, *(one.dtype for one in parameters)} in CUDNN_NORM_DTYPES
    has_statistics = (running_mean is None) == (running_var is None) and (training or running_mean is not None)
    normalized: Tensor
    if takes_dtype and len(parameters) == 2 and has_statistics and x.dim() >= 3 and cudnn_enabled:
        x = x.contiguous(memory_format=suggest_memory_format(x))
        normalized = aten.cudnn_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)[0]
    else:
        normalized = aten.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)[0]
    return normalized


def _dropout(x: Tensor, p: float, train: bool) -> Tensor:
    """Return a dropout that keeps a mask of bytes (aten/src/ATen/native/Dropout.cpp)."""
    if not train or p == 0:
        return x
    if p == 1:
        return x * torch.zeros((), dtype=x.dtype, device=x.device)
    dropped: Tensor = aten.native_dropout(x, p, train)[0]
    return dropped


def _softmax(kernel: Any, x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return a softmax whose kernel converts fp16 to fp32 itself (aten/src/ATen/native/SoftMax.cpp)."""
    if x.dtype == torch.float16 and dtype == torch.float32:
        return cast(Tensor, kernel(x, dim, True))
    x = x if dtype is None else x.to(dtype)
    return cast(Tensor, kernel(x, dim, False))


NORMS = {aten.native_layer_norm.default, aten.native_batch_norm.default, aten.cudnn_batch_norm.default}
"""Norms that return their statistics beside."""


class CudaResults(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Makes operators on fake tensors return CUDA's results if they differ from the CPU's.

    On CUDA the statistics of LayerNorm and BatchNorm are always in fp32 (aten/src/ATen/native/cuda:
    layer_norm_kernel.cu, Normalization.cu).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the operator's result on CUDA."""
        result = func(*args, **(kwargs or {}))
        if func in NORMS:
            normalized, mean, deviation, *others = result
            result = (normalized, mean.float(), deviation.float(), *others)
        return result


def _refuse_recurrent(name: str, *args: Any, **kwargs: Any) -> Any:
    raise NoRuleError(f"aten.{name} runs in cuDNN on CUDA, which keeps memory of unknown size")
