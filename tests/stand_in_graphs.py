"""A stand-in for torch.cuda.make_graphed_callables: the same kernels, launched anew, into the same memory.

What is captured keeps its memory as a CUDA graph does: each replay reads one set of inputs, and writes its loss and its
gradients over those of the replay before. It shows whether a caller can live with that, not what a replay saves.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def make_graphed(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    *,
    pool: Any = None,
    capturing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> nn.Module:
    """Make a module's passes replays of one on ``inputs``, which is made under ``capturing``; return the module."""
    parameters = tuple(module.parameters())
    forward = module.forward
    with capturing():
        loss = forward(*inputs)
        gradients = torch.autograd.grad(loss, parameters)
    live = [loss]
    kept_loss = loss.detach().clone()

    class Replayed(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *given: Tensor) -> Tensor:
            for kept, new in zip(inputs, given, strict=False):
                kept.copy_(new)
            with torch.enable_grad():
                live[0] = forward(*inputs)
            kept_loss.copy_(live[0].detach())
            return kept_loss.detach()

        @staticmethod
        def backward(context: Any, *gradient: Tensor) -> Any:
            for kept, new in zip(gradients, torch.autograd.grad(live[0], parameters, *gradient), strict=True):
                kept.copy_(new)
            return (*[None] * len(inputs), *(kept.detach() for kept in gradients))

    module.forward = lambda *given: Replayed.apply(*given, *parameters)  # type: ignore[no-untyped-call]
    return module
