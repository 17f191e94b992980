"""Faults that a CPU does not notice or does not have, planted into the code of trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from vnbench.model.veernet import ConvNorm, VeerNet
from vnbench.trial.checks import equality
from vnbench.trial.step.optimizer_step import OptimizerStep


def scalar_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round with a number of bits that is a tensor on the CPU."""

    def round_to(values: Tensor, bits: int) -> Tensor:
        mantissa, exponent = torch.frexp(values)
        return torch.ldexp(torch.round(torch.ldexp(mantissa, torch.tensor(bits))), exponent - bits)

    monkeypatch.setattr(equality, "round_to", round_to)


def mask_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the masks of exact padding on the CPU."""
    masks = VeerNet._masks

    def on_cpu(network: VeerNet, valid_BHW: Tensor | None) -> list[Tensor | None]:
        return [
            None if mask is None else torch.ones(mask.shape, dtype=torch.bool) for mask in masks(network, valid_BHW)
        ]

    monkeypatch.setattr(VeerNet, "_masks", on_cpu)


def wide_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply a map by a constant in fp32, which widens it."""

    def forward(module: ConvNorm, x_BCHW: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        y_BCHW = module.conv(x_BCHW)
        y_BCHW = y_BCHW * torch.ones(1, device=y_BCHW.device)
        normed_BCHW: Tensor = module.norm(y_BCHW, mask_B1HW)
        return normed_BCHW

    monkeypatch.setattr(ConvNorm, "forward", forward)


def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find no memory for a step, as the caching allocator tells it."""

    def run(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(OptimizerStep, "run", run)


def _after_each_pass(act: Callable[[Tensor], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        accumulate = OptimizerStep._accumulate

        def accumulate_and_act(step: OptimizerStep, *args: Any, **kwargs: Any) -> Tensor:
            loss = accumulate(step, *args, **kwargs)
            act(loss)
            return loss

        monkeypatch.setattr(OptimizerStep, "_accumulate", accumulate_and_act)

    return plant


def _in_each_pass(act: Callable[[Tensor], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        forward = VeerNet.forward

        def act_and_forward(network: VeerNet, images_BCHW: Tensor, *masks: Tensor) -> Tensor:
            act(images_BCHW)
            return forward(network, images_BCHW, *masks)

        monkeypatch.setattr(VeerNet, "forward", act_and_forward)

    return plant


FAULTS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "scalar on cpu": scalar_on_cpu,
    "mask on cpu": mask_on_cpu,
    "wide constant": wide_constant,
    "no memory": no_memory,
    "read in a block": _after_each_pass(lambda loss: loss.item()),
    "copy to the host in a block": _after_each_pass(lambda loss: loss.cpu()),
    "constant from the host in a block": _after_each_pass(lambda loss: loss * torch.tensor(2.0, device=loss.device)),
    "waiting in a block": _after_each_pass(lambda loss: torch.cuda.synchronize()),
    "constant from the host in a graph": _in_each_pass(lambda images: torch.tensor(2.0, device=images.device)),
    "read in a graph": _in_each_pass(lambda images: images.mean().item()),
}
"""What plants each fault."""
