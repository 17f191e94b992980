"""The network that a spec asks for."""

from __future__ import annotations

from torch import nn

from vnbench.model.veernet import build_model
from vnbench.spec import TrialSpec


def build_network(spec: TrialSpec) -> nn.Module:
    """Return the network of a spec on the CPU in fp32, its weights drawn from torch's global generator."""
    return build_model(
        spec.model,
        num_classes=spec.num_classes,
        norm_groups=spec.norm_groups,
        norm_precision=spec.norm_precision,
        checkpointing=spec.checkpointing,
        padding=spec.padding,
    )
