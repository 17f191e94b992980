"""Two modules for Lightning's Trainer: the loss as its documentation has it, and one that is right in every window."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
"""Images and targets, (B, ...) each."""

LossSum = Callable[[Tensor, Tensor], Tensor]
"""Returns the sum of the examples' losses from what the network says of them and their targets."""


class MeanLoss(pl.LightningModule):
    """Returns the mean loss of the batch at hand, which Lightning divides by ``accumulate_grad_batches``."""

    def __init__(self, network: nn.Module, loss_sum: LossSum, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.network, self.loss_sum, self.optimizer = network, loss_sum, optimizer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return self.optimizer

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a pass."""
        images, targets = batch
        return self.loss_sum(self.network(images), targets) / len(images)


# The remedy.
class ExactWindows(MeanLoss):
    """Divides by the examples of the whole optimizer step, and undoes Lightning's division by its passes."""

    num_train: int
    """Examples of an epoch."""
    batch_size: int
    """Examples of a full optimizer step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a pass, as a share of its step."""
        images, targets = batch
        num_passes = self.trainer.accumulate_grad_batches
        num_before = batch_idx // num_passes * self.batch_size
        num_in_step = min(self.batch_size, self.num_train - num_before)
        return num_passes * self.loss_sum(self.network(images), targets) / num_in_step
