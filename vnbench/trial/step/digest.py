"""Digests of tensors, to the bit: whether two processes computed the same."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

import torch
from torch import Tensor

from vnbench.records.readings import WeightsReading
from vnbench.trial.step.optimizer_step import OptimizerStep


def digest_of(tensors: Iterable[Tensor]) -> str:
    """Return a digest of some tensors, to the bit."""
    found = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        found.update(struct.pack(f"{value.dim()}q", *value.shape))
        found.update(value.view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_weights(step: OptimizerStep) -> WeightsReading:
    """Return a digest of the network's parameters, and after how many updates they have these values."""
    return WeightsReading(digest=digest_of(step.model.parameters()), num_updates=int(step.num_updates()))
