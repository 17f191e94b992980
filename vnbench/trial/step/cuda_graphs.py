"""CUDA graphs of passes: each canvas is captured once, forward and backward, and then replayed.

A replay launches all kernels of a pass at once. This saves the host's time, which limits small canvases. It costs
memory, which is kept between passes, and a copy of each batch into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vnbench.trial.step.compilation import LossOfPass

MakeGraphed = Callable[..., Any]
"""Function like ``torch.cuda.make_graphed_callables``: takes a module, sample inputs and a memory pool."""


class GraphedPasses:
    """Forward passes, captured with their gradients when a shape first occurs, and replayed from then on.

    All graphs share one memory pool: a pass and its gradient are finished before the next pass starts. The next replay
    overwrites a replay's gradient, so parameters need their own gradient tensors to add it to.
    """

    def __init__(self, loss_of_pass: LossOfPass, model: nn.Module, *, make_graphed: MakeGraphed | None = None) -> None:
        self._loss_of_pass = loss_of_pass
        self._model = model
        self._make_graphed: MakeGraphed = make_graphed or torch.cuda.make_graphed_callables
        self._graphed: dict[torch.Size, nn.Module] = {}
        self._pool: Any = None
        # Gradients are added on the stream of the first capture. torch waits where it has to, and warns once.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def __call__(self, images_BCHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
        """Return the sum of the examples' losses.

        Raises:
            RuntimeError: the pass cannot be captured because it waits for the device, copies from the host or does not
                use all its parameters.
        """
        key = images_BCHW.shape
        if key not in self._graphed:
            self._graphed[key] = self._captured((images_BCHW, targets_BHW, valid_BHW))
        loss: Tensor = self._graphed[key](images_BCHW, targets_BHW, valid_BHW)
        return loss

    def _captured(self, batch: tuple[Tensor, ...]) -> nn.Module:
        """Return a pass over batches of one shape, captured on a copy, because replays overwrite their inputs."""
        if self._pool is None and torch.cuda.is_available():
            self._pool = torch.cuda.graph_pool_handle()
        inputs = tuple(tensor.clone() for tensor in batch)
        try:
            captured: nn.Module = self._make_graphed(_Pass(self._loss_of_pass, self._model), inputs, pool=self._pool)
        except RuntimeError as error:
            # After a failure CUDA refuses to end the capture, and that would be told in place of the failure.
            if error.__context__ is None or "captur" not in str(error):
                raise
            raise error.__context__ from None
        return captured


class _Pass(nn.Module):
    """A pass with its parameters, which torch needs to know; one per shape, because capturing changes the module."""

    def __init__(self, loss_of_pass: LossOfPass, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._loss_of_pass = loss_of_pass

    def forward(self, images_BCHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
        return self._loss_of_pass(images_BCHW, targets_BHW, valid_BHW)
