"""Memory that libraries take beside the tensors of a trace, as a low and a high end.

cuDNN decides on a convolution's workspace when it runs, by shape and by what the card has. A trace cannot see it, so
each rule here is a bracket. Where its two ends lie, and why:

- A convolution in half precision or TF32 on maps in NCHW runs a kernel made for NHWC, on copies of two of its three
  maps: from nothing to both copies. The nine rows of pytorch/pytorch#123533 fit the sum to 0.03 GB.
- If the maps are in NHWC already, with channels in multiples of 8, no copies are needed.
- A convolution in fp32 takes from nothing to a copy of its input. If it is 3 x 3 with stride 1 over many channels,
  Winograd's transform may hold both maps as tiles of 6 x 6 for each 4 x 4 pixels (Lavin and Gray 2016).
- cuDNN's backward pass of attention in half precision may sum up the gradient of the queries in fp32.
- cuBLAS keeps one workspace for each thread that calls it, for good: cuda/CUDABlas.cpp sizes it by architecture. A
  training step has two such threads, Python's and that of autograd.
"""

from __future__ import annotations

from collections.abc import Mapping

from vnbench.records.readings import ByteRange
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.step_trace import Capability, Convolution, Operator

MIB = 2**20

HALF_DTYPES = frozenset(one.autocast for one in PRECISIONS.values() if one.is_reduced)

TENSOR_CORE_CHANNELS = 8
"""Multiple of channels from which kernels in NHWC take maps as they are."""

WINOGRAD_CHANNELS = 64
"""Fewest input and output channels for which Winograd's transform is assumed."""

UNSEEN_SHARES = (0.98, 1.08)
"""Peak of a run over that of its trace, low and high end: other versions of torch save other tensors, and many kernels
take small workspaces."""

UNSEEN_BYTES = 200 * MIB
"""Bytes that the high end adds at least: gradients of weights that are summed in parts take up to this much on deep,
small maps, whatever the batch."""

CUBLAS_BYTES: Mapping[int, int] = {9: 32 * MIB, 10: 32 * MIB, 12: 32 * MIB}
"""Workspace of cuBLAS per thread, by the major compute capability."""

OLDER_CUBLAS_BYTES = 8_519_680
"""Workspace of cuBLAS per thread on older cards: CUBLAS_WORKSPACE_CONFIG's :4096:2:16:8, in KiB."""

CUDNN_ATTENTION_BACKWARD = "cudnn_attention_backward"
"""Part of the names of its operators. The temporaries of other fused kernels are known and in the trace."""

NOTHING = ByteRange(0, 0)


def workspace_of(operator: Operator, *, is_tf32: bool) -> ByteRange:
    """Return the bytes that an operator takes while it runs.

    ``is_tf32`` says whether convolutions in fp32 run on tensor cores.
    """
    if operator.convolution is not None:
        return _of_convolution(operator.convolution, operator.dtype, is_tf32=is_tf32)
    if operator.dtype in HALF_DTYPES and CUDNN_ATTENTION_BACKWARD in operator.name:
        # A third of what it writes is the gradient of the queries, which has twice the bytes in fp32.
        return ByteRange(0, 2 * operator.bytes_written // 3)
    return NOTHING


def cublas_bytes(capability: Capability) -> int:
    """Return the bytes that cuBLAS keeps for each thread that calls it."""
    return CUBLAS_BYTES.get(capability[0], OLDER_CUBLAS_BYTES)


def _of_convolution(one: Convolution, dtype: str, *, is_tf32: bool) -> ByteRange:
    if one.groups == one.in_channels > 1 and dtype not in HALF_DTYPES:
        return NOTHING  # ATen's own kernel for depthwise convolutions
    copies = one.input_bytes + one.output_bytes
    if dtype in HALF_DTYPES or is_tf32:
        is_aligned = not (one.in_channels % TENSOR_CORE_CHANNELS or one.out_channels % TENSOR_CORE_CHANNELS)
        high = 0 if one.is_channels_last and is_aligned else copies
    else:
        is_winograd = (
            one.kernel_size == (3, 3)
            and {*one.stride, *one.dilation, one.groups} == {1}
            and min(one.in_channels, one.out_channels) >= WINOGRAD_CHANNELS
        )
        high = 9 * copies // 4 + 4 * one.weight_bytes if is_winograd else one.input_bytes
    return ByteRange(0, high)


def with_unseen(low: int, high: int) -> ByteRange:
    """Return the range of a peak, given without and with workspaces, widened for what no rule covers."""
    least, most = min(low, high), max(low, high)
    return ByteRange(int(UNSEEN_SHARES[0] * least), max(int(UNSEEN_SHARES[1] * least), most + UNSEEN_BYTES))


def ddp_bytes(parameter_bytes: int) -> int:
    """Return the bytes of DistributedDataParallel's buckets: a second copy of the gradients.

    With ``gradient_as_bucket_view`` there is no second copy.
    """
    return parameter_bytes
