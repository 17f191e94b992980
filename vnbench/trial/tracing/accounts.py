"""Bytes and floating-point operations of an operator, from its inputs and results."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vnbench.records.step_trace import Convolution, Operator, TracedPhase

aten = torch.ops.aten

Sort = Literal["view", "empty", "read", "kernel"]
"""Effect of an operator: return a view of an input, allocate uninitialised memory, read a number for the host, or run a
kernel."""

GEMMS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten._addmm_activation, aten.mv, aten.addmv, aten.dot}
"""Operators that call cuBLAS."""

GRADIENTS: tuple[Literal["input", "weight"], ...] = ("input", "weight")
"""Gradients of a convolution that have their own kernel; the third, that of the bias, is a sum."""

WRITES_ALL = {"copy_", "fill_", "zero_", "_foreach_copy_", "_foreach_zero_", "uniform_", "normal_", "bernoulli_"}
"""Operators that change a tensor without reading it, by name without overload."""


@functools.cache
def sort_of(operator: Any) -> Sort:
    """Return the effect of an operator."""
    name = operator._schema.name.removeprefix("aten::")
    if name == "_local_scalar_dense":
        return "read"
    if name.startswith(("empty", "new_empty")):
        return "empty"
    returned = [value.alias_info for value in operator._schema.returns]
    is_view = name == "_unsafe_view" or any(alias is not None and not alias.is_write for alias in returned)
    return "view" if is_view or operator.namespace == "prim" else "kernel"


def account(
    operator: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    result: Any,
    *,
    phase: TracedPhase,
    on_card: Iterable[Tensor],
) -> Operator:
    """Return the account of an operator; ``on_card`` holds its inputs and results that are on the card."""
    known = {_key(tensor) for tensor in on_card}
    read, changed = _given(operator, args, kwargs)
    written = [*changed, *_tensors(result)]
    is_half_written = operator._overloadpacket is aten._fused_adamw_ and kwargs.get("grad_scale") is None
    if is_half_written:  # gradients are changed only if they are scaled
        gradients = {_key(tensor) for tensor in args[1]}
        written = [tensor for tensor in written if _key(tensor) not in gradients]
    return Operator(
        name=str(operator),
        phase=phase,
        dtype=_dtype([*read, *written]),
        bytes_read=_bytes(read, known),
        bytes_written=_bytes(written, known),
        flops=_flops(operator, args, kwargs, result),
        num_blocks=_num_blocks(operator, args),
        is_gemm=operator._overloadpacket in GEMMS,
        convolution=_convolution(operator, args, result),
    )


def _given(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the input tensors that an operator reads, and those that it changes."""
    arguments = operator._schema.arguments
    names = [argument.name for argument in arguments]
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    name = operator._schema.name.removeprefix("aten::")
    read: list[Tensor] = []
    changed: list[Tensor] = []
    for argument in arguments:
        tensors = list(_tensors(given.get(argument.name)))
        is_changed = argument.alias_info is not None and argument.alias_info.is_write
        if is_changed:
            changed += tensors
        if not is_changed or not (argument.is_out or name in WRITES_ALL):
            read += tensors
    return read, changed


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _key(tensor: Tensor) -> tuple[Any, ...]:
    """Return a key that is equal for tensors on the same part of the same memory."""
    return (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride())


def _bytes(tensors: Iterable[Tensor], known: set[tuple[Any, ...]]) -> int:
    different = {_key(tensor): tensor for tensor in tensors}
    return sum(_bytes_of(tensor) for key, tensor in different.items() if key in known)


def _bytes_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor in memory, where an expanded dimension counts once."""
    seen = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        seen *= length if stride or not length else 1
    return seen * tensor.element_size()


def _dtype(tensors: Sequence[Tensor]) -> str:
    dtypes = [tensor.dtype for tensor in tensors]
    floating = [dtype for dtype in dtypes if dtype.is_floating_point]
    found = max(floating, key=lambda dtype: dtype.itemsize) if floating else dtypes[-1]
    return str(found).removeprefix("torch.")


def _flops(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    if operator is aten.convolution_backward.default:
        return _flops_of_convolution_backward(args)
    count = flop_registry.get(operator._overloadpacket)
    return 0 if count is None else int(count(*args, **kwargs, out_val=result))


def _flops_of_convolution_backward(args: Sequence[Any]) -> int:
    """Return as many operations for each gradient as the convolution itself took.

    torch's counter (2.11 to 2.13) takes the gradients of a convolution in groups for those of one without groups.
    """
    dy, x, weight, _, _, _, _, is_transposed, _, _, mask = args
    positions = x if is_transposed else dy
    return int(sum(mask[:2]) * 2 * positions.numel() * weight[0].numel())


def _num_blocks(operator: Any, args: Sequence[Any]) -> int | None:
    """Return the number of thread blocks in GroupNorm's reductions (aten/src/ATen/native/cuda/group_norm_kernel.cu).

    Statistics take one block for each group of each example, the backward pass's sums one for each channel of each.
    """
    if operator is aten.native_group_norm.default:
        _, _, _, num_examples, _, _, num_groups, _ = args
        return int(num_examples * num_groups)
    if operator is aten.native_group_norm_backward.default:
        _, _, _, _, _, num_examples, num_channels, *_ = args
        return int(num_examples * num_channels)
    return None


def _convolution(operator: Any, args: Sequence[Any], result: Any) -> Convolution | None:
    mask: Sequence[bool] = ()
    if operator is aten.convolution.default:
        x, weight, _, stride, _, dilation, is_transposed, _, groups = args
        y = result
    elif operator is aten.convolution_backward.default:
        y, x, weight, _, stride, _, dilation, is_transposed, _, groups, mask = args
    else:
        return None
    return Convolution(
        input_bytes=_bytes_of(x),
        weight_bytes=_bytes_of(weight),
        output_bytes=_bytes_of(y),
        kernel_size=tuple(weight.shape[2:]),
        stride=tuple(stride),
        dilation=tuple(dilation),
        in_channels=x.shape[1],
        out_channels=y.shape[1],
        groups=groups,
        is_transposed=is_transposed,
        is_channels_last=layout_of_convolution(x, weight) != torch.contiguous_format,
        gradients=tuple(name for name, is_wanted in zip(GRADIENTS, mask, strict=False) if is_wanted),
    )


def layout_of_convolution(x: Tensor, weight: Tensor) -> torch.memory_format:
    """Return the layout in which cuDNN convolves: channels-last if the map or the weight is.

    Source: aten/src/ATen/native/ConvUtils.h, cudnn_conv_suggest_memory_format; for 2 dimensions, and for 3 since cuDNN
    8.0.5.
    """
    if x.dtype == torch.float64 or x.dim() not in (4, 5):
        return torch.contiguous_format
    channels_last: torch.memory_format = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    if channels_last in (suggest_memory_format(x), suggest_memory_format(weight)):
        return channels_last
    return torch.contiguous_format
