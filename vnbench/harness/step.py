"""One optimizer step over its micro-batches: zero, forward, backward, step, in that order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vnbench.data.collate import Batch, device_tensors, to_device
from vnbench.measure.memory import keep_freed_memory
from vnbench.measure.timing import StepTimer
from vnbench.model.loss import tversky_loss_sum
from vnbench.model.veernet import build_model
from vnbench.spec import Precision, TrialSpec

AUTOCAST_DTYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}

LEARNING_RATE = 1e-4
"""Small enough that no precision diverges in the few steps of a trial; it has no influence on time or memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one step leaves behind, still on the device, so that reading it waits for nothing inside a block."""

    loss: Tensor
    """Scalar: the step's loss, per example."""
    num_updates: Tensor
    """Scalar: the optimizer's own count of updates; it stands still when the gradient scaler left one out."""


def set_arithmetic(precision: Precision) -> None:
    """Let fp32 convolutions and matrix products use TF32 if ``precision`` is tf32, and full fp32 otherwise.

    Attention leaves cuDNN out: it builds a plan for each new number of tokens, up to half a second a pass, and ragged
    canvases rarely have the same number twice.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    fp32_precision = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = fp32_precision
    torch.backends.cudnn.conv.fp32_precision = fp32_precision  # type: ignore[attr-defined]  # torch 2.13 types it not


class OptimizerStep:
    """A model with its optimizer, precision and gradient scaler.

    The loss of a step is the sum over all its examples of their own losses, divided by the number of examples of the
    whole step: it does not depend on how they were grouped into micro-batches.
    """

    def __init__(self, model: nn.Module, *, precision: Precision, device: torch.device) -> None:
        set_arithmetic(precision)
        self.model = model
        self.device = device
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
        self._autocast_dtype = AUTOCAST_DTYPES.get(precision)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._first_parameter = next(iter(model.parameters()))

    def run(self, micro_batches: Iterator[Batch], *, num_examples: int, timer: StepTimer) -> StepResult:
        """Train on the next micro-batches of an iterator until they hold ``num_examples`` examples.

        ``num_examples`` is known from the plan before the first pass, so each pass can be divided by it.
        """
        timer.begin_step()
        with timer.phase("optimizer"):
            self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        num_seen = 0
        while num_seen < num_examples:
            with timer.phase("data_wait"):
                batch = next(micro_batches)
            num_seen += len(batch.sizes_B2)
            loss += self._accumulate(batch, num_examples=num_examples, timer=timer)
        with timer.phase("optimizer"):
            self._scaler.step(self.optimizer)
            self._scaler.update()
        num_updates: Tensor = self.optimizer.state[self._first_parameter]["step"].clone()
        return StepResult(loss=loss, num_updates=num_updates)

    def visit(self, batch: Batch, *, timer: StepTimer) -> None:
        """Run one pass over a batch and drop its gradient: what a shape costs when it is first seen is paid here."""
        timer.begin_step()
        self._accumulate(batch, num_examples=len(batch.sizes_B2), timer=timer)
        self.optimizer.zero_grad(set_to_none=True)

    def _accumulate(self, batch: Batch, *, num_examples: int, timer: StepTimer) -> Tensor:
        """Add one micro-batch's share of the step's gradient; return its share of the loss."""
        with timer.phase("h2d"):
            images_BCHW, targets_BHW, valid_BHW = device_tensors(to_device(batch, self.device, non_blocking=True))
        with timer.phase("forward"):
            with torch.autocast(self.device.type, dtype=self._autocast_dtype, enabled=self._autocast_dtype is not None):
                logits_BKHW = self.model(images_BCHW)
            loss = tversky_loss_sum(logits_BKHW, targets_BHW, valid_BHW) / num_examples
        with timer.phase("backward"):
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        return loss.detach()


def build_step(spec: TrialSpec, *, device: torch.device) -> OptimizerStep:
    """Return the optimizer step of a spec, its model on the device with weights drawn from the spec's seed."""
    if device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(spec.seed)
    model = build_model(
        spec.model,
        num_classes=spec.num_classes,
        norm_groups=spec.norm_groups,
        norm_precision=spec.norm_precision,
        checkpointing=spec.checkpointing,
    )
    return OptimizerStep(model.to(device).train(), precision=spec.precision, device=device)
