"""What the backward pass recomputes: nothing, a part from its input, or all of a part but its costly operators."""

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
"""Operators whose results ``selective`` keeps: convolutions, matrix products, and the kernels that attention has on
CUDA and on the CPU."""


def run_part(part: Callable[..., Tensor], *inputs: Tensor | None, checkpointing: Checkpointing) -> Tensor:
    """Return ``part(*inputs)``; with ``stages`` and ``selective`` the inputs are kept, and recomputed what is inside.

    Nothing that is kept may be changed in place: torch raises where it was.
    """
    if checkpointing == "none" or not torch.is_grad_enabled():
        return part(*inputs)
    contexts: dict[str, Any] = {}
    if checkpointing == "selective":
        contexts["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    # Nothing here draws random numbers, so the generators' states need not be saved and restored.
    output: Tensor = checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=False, **contexts)
    return output


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in COSTLY else CheckpointPolicy.PREFER_RECOMPUTE


def recomputed(part: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """Return ``part(*inputs)``, whose costly results are kept and the others recomputed."""
    return run_part(part, *inputs, checkpointing="selective")
