"""A training loop of one's own for ``vnbench audit benchmarks/own_loop.py:train``: windows of four batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 4

Batch = tuple[Tensor, Tensor, Tensor]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> None:
    """Train on windows of batches, whose loss is the mean over the valid pixels of the window."""
    for start in range(0, len(batches), WINDOW):
        window = batches[start : start + WINDOW]
        num_pixels = sum(valid_BHW.sum() for _, _, valid_BHW in window)
        optimizer.zero_grad()
        for images_B1HW, targets_BHW, valid_BHW in window:
            losses_BHW = F.cross_entropy(model(images_B1HW), targets_BHW, reduction="none")
            loss = (losses_BHW * valid_BHW).sum() / num_pixels
            loss.backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        optimizer.step()
