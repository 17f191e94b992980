"""Activation checkpointing: recompute nothing, whole parts, or all but the costly operators of a part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from vnbench.records.spec.words import Checkpointing

aten = torch.ops.aten

COSTLY = {
    aten.convolution.default,
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}
"""Operators whose results ``selective`` keeps: convolutions, matrix products, and the attention kernels of CUDA and
CPU."""


def run_part(part: Callable[..., Tensor], *inputs: Tensor | None, checkpointing: Checkpointing) -> Tensor:
    """Return ``part(*inputs)``. With ``stages`` and ``selective`` the inputs are kept and the part is recomputed.

    Kept tensors must not be changed in place; torch raises an error if they were.
    """
    if checkpointing == "none" or not torch.is_grad_enabled():
        return part(*inputs)
    contexts: dict[str, Any] = {}
    if checkpointing == "selective":
        contexts["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    # No part draws random numbers, so generator states need not be saved and restored.
    output: Tensor = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **contexts)
    return output


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in COSTLY else CheckpointPolicy.PREFER_RECOMPUTE


def recomputed(part: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """Return ``part(*inputs)``, keeping the results of costly operators and recomputing the others."""
    return run_part(part, *inputs, checkpointing="selective")
