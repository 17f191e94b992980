"""CUDA graphs of passes: each canvas is captured once, forward and backward, and replayed from then on.

A replay launches a pass's kernels at once. What it saves is the host's time, which a small canvas waits for; what it
costs is memory of its own, kept between passes, and a copy of each batch into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vnbench.trial.step.compilation import LossOfPass

MakeGraphed = Callable[..., Any]
"""What ``torch.cuda.make_graphed_callables`` does: takes a module, tensors like its inputs and a memory pool."""


class GraphedPasses:
    """Passes forward, captured with their gradients the first time that a shape comes up, and replayed every time.

    All graphs share one pool of memory: a pass is over, its gradient too, before the next one begins. The gradient of a
    replay lies where the next replay writes, so parameters must have gradients of their own that it is added to.
    """

    def __init__(self, loss_of_pass: LossOfPass, model: nn.Module, *, make_graphed: MakeGraphed | None = None) -> None:
        self._loss_of_pass = loss_of_pass
        self._model = model
        self._make_graphed: MakeGraphed = make_graphed or torch.cuda.make_graphed_callables
        self._graphed: dict[torch.Size, nn.Module] = {}
        self._pool: Any = None
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def __call__(self, images_BCHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
        """Return the sum of the losses of some examples.

        Raises:
            RuntimeError: a pass waits for the device or copies from the host, so that it cannot be captured, or has
                parameters that it does not use.
        """
        key = images_BCHW.shape
        if key not in self._graphed:
            self._graphed[key] = self._captured((images_BCHW, targets_BHW, valid_BHW))
        loss: Tensor = self._graphed[key](images_BCHW, targets_BHW, valid_BHW)
        return loss

    def _captured(self, batch: tuple[Tensor, ...]) -> nn.Module:
        """Return a pass over batches of one shape, captured on a copy of one: replays write over what they read."""
        if self._pool is None and torch.cuda.is_available():
            self._pool = torch.cuda.graph_pool_handle()
        inputs = tuple(tensor.clone() for tensor in batch)
        captured: nn.Module = self._make_graphed(_Pass(self._loss_of_pass, self._model), inputs, pool=self._pool)
        return captured


class _Pass(nn.Module):
    """A pass with its parameters, which torch has to know: one for each shape, as torch changes what it captures."""

    def __init__(self, loss_of_pass: LossOfPass, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._loss_of_pass = loss_of_pass

    def forward(self, images_BCHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
        return self._loss_of_pass(images_BCHW, targets_BHW, valid_BHW)
