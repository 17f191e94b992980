"""Traces of other networks in a plain training loop, as others ran it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vnbench.records.spec.words import Precision
from vnbench.records.step_trace import Capability, StepTrace
from vnbench.trial.step.fake_network import faked
from vnbench.trial.tracing.cuda_rules import cuda_rules
from vnbench.trial.tracing.recorder import Recorder

NUM_STEPS = 2

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Returns the loss of a network on images (B, 3, H, W) and their labels, (B, H, W) or (B,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A plain training loop."""

    build: Callable[[], nn.Module]
    """Makes the network."""
    loss: Loss
    """Computes its loss."""
    images: tuple[int, int, int]
    """Examples, height and width in pixels of a batch."""
    has_maps: bool = True
    """Whether labels are maps, rather than a number per image."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """SGD has momentum."""
    precision: Precision = "fp32"
    """fp16 runs under autocast."""
    is_channels_last: bool = False
    """Whether maps and weights are channels-last."""


def traced(training: Training, *, capability: Capability) -> StepTrace:
    """Return the trace of two steps of a training loop as a card of this compute capability would run them."""
    recorder = Recorder(is_on_card=lambda tensor: tensor.device.type == "cpu", has_host_numbers=True)
    with torch.random.fork_rng(devices=[]):
        network = training.build().train()
    if training.is_channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    has_autocast = training.precision in ("fp16", "bf16")
    dtype = torch.bfloat16 if training.precision == "bf16" else torch.float16
    batch, height, width = training.images
    with cuda_rules(capability), faked(network) as fake:
        optimizer = _optimizer(fake, training.optimizer)
        recorder.track([*fake.parameters(), *fake.buffers()])
        images = torch.empty((batch, 3, height, width), device="meta")
        labels = torch.empty(
            (batch, height, width) if training.has_maps else (batch,), dtype=torch.int64, device="meta"
        )
        with recorder:
            for _ in range(NUM_STEPS):
                recorder.begin_step()
                with recorder.phase("data_wait"):
                    pass
                with recorder.phase("h2d"):
                    layout = torch.channels_last if training.is_channels_last else torch.contiguous_format
                    moved = (images.to("cpu").contiguous(memory_format=layout), labels.to("cpu"))
                with recorder.phase("forward"), torch.autocast("cpu", dtype=dtype) if has_autocast else nullcontext():
                    loss = training.loss(fake, *moved)
                with recorder.phase("backward"):
                    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                with recorder.phase("optimizer"):
                    recorder.is_updating(True)
                    optimizer.step()
                    recorder.is_updating(False)
                    optimizer.zero_grad(set_to_none=True)
                del moved, loss
        events = recorder.close()
    numbers = sum(parameter.numel() for parameter in network.parameters())
    return StepTrace(
        torch=torch.__version__.partition("+")[0],
        capability=capability,
        notes=(),
        num_parameters=numbers,
        parameter_bytes=4 * numbers,
        batch_bytes=4 * 3 * batch * height * width,
        num_passes=1,
        operators=tuple(recorder.operators),
        sequence=tuple(recorder.sequence),
        events=events,
    )


def _optimizer(network: nn.Module, name: str) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, foreach=True)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=0.01, foreach=True, capturable=False)
