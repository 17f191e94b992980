"""The rules of CUDA's autocast, which replace the CPU's within a context.

The installed torch says which operators have a rule, because its CPU build also holds CUDA's table. The effect of each
rule is listed here, from ATen/autocast_mode.h, whose lists agree in torch 2.11 to 2.13 for the operators named here;
rms_norm has a rule from 2.12 on. An operator with a rule in torch that is not listed here is refused when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from vnbench.trial.step.network_errors import NoRuleError
from vnbench.trial.tracing.dispatcher import registered

Rule = Literal["lower", "fp32", "fp32 by argument", "promote", "norm", "banned"]
"""``lower`` casts to autocast's dtype, ``fp32`` to fp32, ``promote`` to the widest dtype of the inputs. ``fp32 by
argument`` and ``norm`` cast nothing but ask for a result in fp32; ``banned`` raises an error."""

_NAMES: Mapping[Rule, str] = {
    "lower": (
        "_convolution.deprecated _convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d.input "
        "conv_transpose3d.input convolution cudnn_convolution cudnn_convolution_transpose prelu addmm addmv addr "
        "matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot "
        "_thnn_fused_lstm_cell _thnn_fused_gru_cell lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell "
        "_scaled_dot_product_flash_attention scaled_dot_product_attention"
    ),
    "fp32": (
        "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar "
        "pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm rms_norm group_norm frobenius_norm.dim "
        "nuclear_norm nuclear_norm.dim cosine_similarity poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d "
        "hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss "
        "multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss "
        "binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp upsample_nearest1d "
        "_upsample_nearest_exact1d upsample_nearest2d _upsample_nearest_exact2d upsample_nearest3d "
        "_upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa "
        "upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa"
    ),
    "fp32 by argument": (
        "prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm linalg_matrix_norm "
        "linalg_matrix_norm.str_ord sum sum.dim_IntList"
    ),
    "norm": "norm.Scalar norm.ScalarOpt_dim",
    "promote": "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add",
    "banned": "binary_cross_entropy",
}

RULES: Mapping[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""Rule of CUDA's autocast for each operator, named as in aten's schemas."""

SHARED = {
    "_convolution.deprecated",
    "addbmm",
    "addmm",
    "baddbmm",
    "bmm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_tbc",
    "conv_transpose1d",
    "conv_transpose2d.input",
    "conv_transpose3d.input",
    "linalg_vecdot",
    "linear",
    "matmul",
    "mm",
    "scaled_dot_product_attention",
}
"""Operators for which the CPU's rule is also ``lower``. It is kept, because only torch's own rule can use autocast's
cache of cast weights."""

REDUCED = (torch.bfloat16, torch.float16)

CUDA_TABLE, CPU_TABLE = "AutocastCUDA", "AutocastCPU"


def names_with_rules(table: str) -> frozenset[str]:
    """Return the aten operators with a rule in a table of autocast, AutocastCUDA or AutocastCPU."""
    registered: list[str] = torch._C._dispatch_get_registrations_for_dispatch_key(table)
    return frozenset(name.removeprefix("aten::") for name in registered if name.startswith("aten::"))


@contextmanager
def cuda_autocast() -> Iterator[None]:
    """Return a context in which autocast on the CPU follows CUDA's rules."""
    of_cuda = names_with_rules(CUDA_TABLE)
    none = dict.fromkeys(names_with_rules(CPU_TABLE) - of_cuda, torch.library.fallthrough_kernel)
    with registered(CPU_TABLE, none | {name: _kernel(name) for name in of_cuda - SHARED}):
        yield


def _kernel(name: str) -> Callable[..., Any]:
    operator = overload(name)
    match RULES.get(name):
        case "lower":
            return partial(_call_cast, operator, _to_lower)
        case "fp32":
            return partial(_call_cast, operator, _to_fp32)
        case "promote":
            return partial(_call_cast, operator, _to_widest)
        case "fp32 by argument":
            return partial(_call_for_fp32, operator)
        case "norm":
            return partial(_call_norm, overload(f"{name}_dtype".replace("Scalar_", "ScalarOpt_")))
        case "banned":
            return partial(_refuse, RuntimeError, f"{name} does not run under autocast: take {name}_with_logits")
        case _:
            told = f"what autocast does to aten.{name} on CUDA is not known for torch {torch.__version__}"
            return partial(_refuse, NoRuleError, told)


def overload(name: str) -> Any:
    """Return an aten operator by its name in schemas, such as ``conv2d`` or ``pow.Scalar``."""
    packet, _, suffix = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), suffix or "default")


@contextmanager
def _no_autocast() -> Iterator[None]:
    key: Any = torch._C.DispatchKey.AutocastCPU
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
        yield


def _call_cast(operator: Any, target: Callable[[Any], torch.dtype], *args: Any, **kwargs: Any) -> Any:
    with _no_autocast():
        dtype = target((args, kwargs))
        # Code in torch's wheels evaluates arguments from last to first, so cast in that order.
        leaves, tree = tree_flatten((args, kwargs))
        cast = [value.to(dtype) if is_eligible(value) else value for value in reversed(leaves)]
        args, kwargs = tree_unflatten(reversed(cast), tree)
        return operator(*args, **kwargs)


def _call_for_fp32(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator with an fp32 result, unless another dtype was asked for."""
    with _no_autocast():
        if not is_eligible(args[0]):
            return operator(*args, **kwargs)
        names = [argument.name for argument in operator._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        if given.get("dtype") is None:
            given["dtype"] = torch.float32
        positional = [argument.name for argument in operator._schema.arguments if not argument.kwarg_only]
        ordered = [given.pop(name) for name in positional if name in given]
        return operator(*ordered, **given)


def _call_norm(operator: Any, *args: Any, **kwargs: Any) -> Any:
    with _no_autocast():
        dtype = torch.float32 if is_eligible(args[0]) else args[0].dtype
        return operator(*args, **kwargs, dtype=dtype)


def _refuse(error: type[Exception], message: str, *args: Any, **kwargs: Any) -> Any:
    raise error(message)


def is_eligible(value: Any) -> bool:
    """Return whether autocast may cast a value: a floating-point tensor that is not float64."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _to_lower(given: Any) -> torch.dtype:
    return torch.get_autocast_dtype("cpu")


def _to_fp32(given: Any) -> torch.dtype:
    return torch.float32


def _to_widest(given: Any) -> torch.dtype:
    is_wide = any(is_eligible(leaf) and leaf.dtype not in REDUCED for leaf in tree_leaves(given))
    return torch.float32 if is_wide else torch.get_autocast_dtype("cpu")
