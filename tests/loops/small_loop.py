"""What the loops of the tests share: a small network, losses that are right, and an audit within this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vnbench.loops.auditing import audit_loop
from vnbench.loops.running import Loop
from vnbench.records.audit_reading import AuditReading

Batch = tuple[Tensor, Tensor, Tensor]


class SmallNetwork(nn.Module):
    """Two convolutions with a norm between them that does not mix examples."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(1, 4), nn.GELU())
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, images_B1HW: Tensor) -> Tensor:
        return self.head(self.body(images_B1HW))


def pixel_loss(logits_BKHW: Tensor, batch: Batch) -> Tensor:
    """Return the sum of the losses of all valid pixels."""
    _, targets_BHW, valid_BHW = batch
    return (F.cross_entropy(logits_BKHW.float(), targets_BHW, reduction="none") * valid_BHW).sum()


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean loss of a batch, which is right where a batch is a step."""
    return pixel_loss(model(batch[0]), batch) / batch[2].sum()


def windows(batches: Sequence[Batch], size: int) -> Iterator[Sequence[Batch]]:
    """Yield groups of batches for one step each; the last one may be short."""
    for start in range(0, len(batches), size):
        yield batches[start : start + size]


def share(model: nn.Module, batch: Batch, window: Sequence[Batch]) -> Tensor:
    """Return a batch's part of the mean loss over the valid pixels of its window."""
    return pixel_loss(model(batch[0]), batch) / sum(one[2].sum() for one in window)


def audited(function: Any, *, make_network: Any = SmallNetwork) -> AuditReading:
    """Audit a loop within this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        loop = Loop(function=function, make_network=make_network, num_classes=3, seed=0)
        return audit_loop(loop, loop_id="", batch_size=2)
    finally:
        torch.set_num_threads(threads)
