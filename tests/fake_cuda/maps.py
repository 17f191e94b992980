"""Which dtype each map of a network has to have: what the spec says, whatever CUDA autocast widens on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vnbench.model.normalization import ExplicitGroupNorm, ExplicitLayerNorm
from vnbench.model.veernet import BottleneckAttention, DecoderStage, EncoderStage
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.step import optimizer_step as step_module
from vnbench.trial.step.optimizer_step import autocast_dtype


class WrongDtypeError(Exception):
    """A map that is wider or narrower than its spec says."""


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold every map of the networks that steps are made of against their specs."""
    draw = step_module.drawn_network

    def drawn_network(spec: TrialSpec, *, device: torch.device) -> nn.Module:
        network = draw(spec, device=device)
        _watch(network, spec)
        return network

    monkeypatch.setattr(step_module, "drawn_network", drawn_network)


def _watch(network: nn.Module, spec: TrialSpec) -> None:
    reduced = autocast_dtype(spec.precision) or torch.float32
    normed = reduced if spec.norm_precision == "input" else torch.float32
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) or module is network:
            module.register_forward_hook(_expecting(name or "logits", reduced))
        elif isinstance(module, DecoderStage):
            module.register_forward_hook(_expecting(name, normed, with_head=reduced), with_kwargs=True)
        elif isinstance(module, ExplicitGroupNorm | ExplicitLayerNorm | EncoderStage | BottleneckAttention):
            module.register_forward_hook(_expecting(name, normed))
        if isinstance(module, nn.Conv2d | nn.Linear) and name != "stem.conv":  # images come in fp32
            module.register_forward_pre_hook(_expecting_input(name, normed, reduced))


def _expecting(name: str, dtype: torch.dtype, *, with_head: torch.dtype | None = None) -> Callable[..., None]:
    """Return a hook that refuses another dtype; ``with_head`` is that of a stage that was given the head to run."""

    def hook(module: nn.Module, inputs: Any, *keywords_and_output: Any) -> None:
        *keywords, output = keywords_and_output
        expected = with_head if keywords and keywords[0].get("head") is not None else dtype
        if output.dtype != expected:
            raise WrongDtypeError(f"{name} returns {output.dtype}, where the spec says {expected}")

    return hook


def _expecting_input(name: str, *dtypes: torch.dtype) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].dtype not in dtypes:
            raise WrongDtypeError(f"{name} is given {inputs[0].dtype}, where the spec says {dtypes}")

    return hook
