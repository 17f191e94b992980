"""One optimizer step over its micro-batches: zero gradients, forward, backward, step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vnbench.loading.collate import Batch, device_tensors, to_device
from vnbench.model.loss import tversky_loss_sum
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import ImagesSpec, TrialSpec
from vnbench.records.spec.words import IGNORED_CLASS, MemoryFormat, OptimizerLoop, Padding, Precision
from vnbench.trial.instruments.memory import keep_freed_memory
from vnbench.trial.instruments.timing import PhaseTimes, StepTimer, make_timer
from vnbench.trial.step.compilation import LossOfPass, compile_model, compile_pass
from vnbench.trial.step.cuda_graphs import GraphedPasses, MakeGraphed
from vnbench.trial.step.layout import lay_out, lay_out_images
from vnbench.trial.step.network import build_network

MIN_SCALE = 1.0
"""Scale of a loss below which an overflowing gradient is wrong rather than just large."""

OVERFLOW_STRIDE = 16
"""Divisor of a loss's scale after an overflow, when only a gradient is computed."""

LEARNING_RATE = 1e-4
"""Learning rate: small enough that no precision diverges in a trial's few steps; irrelevant to time and memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """Result of one step, still on the device, so that a block does not wait for it."""

    loss: Tensor
    """Scalar, the step's loss per example."""
    num_updates: Tensor
    """Scalar, the optimizer's count of updates; it does not change if the gradient scaler skips an update."""


class OptimizerStep:
    """A model with its optimizer, precision and gradient scaler.

    The loss of a step is the sum of its examples' losses, divided by the number of examples in the whole step, so it
    does not depend on their grouping into micro-batches.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        precision: Precision,
        device: torch.device,
        memory_format: MemoryFormat = "contiguous",
        optimizer: OptimizerLoop = "fused",
        padding: Padding = "plain",
        ignores_pixels: bool = False,
        make_scaler: Callable[..., torch.amp.GradScaler] | None = None,
    ) -> None:
        """``ignores_pixels``: targets hold IGNORED_CLASS at pixels that the loss ignores but the network sees."""
        self.model = model
        self.device = device
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, fused=optimizer == "fused", foreach=optimizer == "foreach"
        )
        self._memory_format: MemoryFormat = memory_format
        self._is_exact = padding == "exact"
        self._ignored_class = IGNORED_CLASS if ignores_pixels else None
        self._autocast_dtype = autocast_dtype(precision)
        self._scaler = (make_scaler or torch.amp.GradScaler)(device.type, enabled=PRECISIONS[precision].scales_loss)
        self._loss_of_pass: LossOfPass = self._loss_sum
        self._first_parameter = next(iter(model.parameters()))

    def compile_passes(self) -> None:
        """Compile forward pass and loss together from the next pass on; otherwise like ``compile_model``."""
        self._loss_of_pass = compile_pass(self._loss_sum, device=self.device)

    def graph_passes(self, *, make_graphed: MakeGraphed | None = None) -> None:
        """Capture passes as CUDA graphs, one per canvas, and replay them, from the next pass on."""
        self._loss_of_pass = GraphedPasses(self._loss_sum, self.model, make_graphed=make_graphed)

    @property
    def is_replayed(self) -> bool:
        """Whether passes are replays, which allocate nothing: their memory was reserved at capture."""
        return isinstance(self._loss_of_pass, GraphedPasses)

    def run_block(
        self, micro_batches: Iterator[Batch], *, num_examples: Sequence[int], timer: StepTimer
    ) -> tuple[list[StepResult], PhaseTimes, float]:
        """Run a step for each number of examples, and return the results, the times and the wall-clock seconds."""
        timer.begin_block()
        results = [self.run(micro_batches, num_examples=number, timer=timer) for number in num_examples]
        return results, *timer.end_block()

    def run(self, micro_batches: Iterator[Batch], *, num_examples: int, timer: StepTimer) -> StepResult:
        """Train on the next ``num_examples`` examples of an iterator of micro-batches, and return the result.

        The plan gives ``num_examples`` before the first pass, so that each pass's loss can be divided by it.
        """
        timer.begin_step()
        with timer.phase("optimizer"):
            self._drop_gradient()
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
        return StepResult(loss=loss, num_updates=self.num_updates())

    def call(self, function: Callable[[], None]) -> None:
        """Run a function: this thread computes."""
        function()

    def visit(self, batch: Batch, *, timer: StepTimer) -> None:
        """Run one pass over a batch and drop its gradient, to pay the one-time cost of a new shape."""
        timer.begin_step()
        self._accumulate(batch, num_examples=len(batch.sizes_B2), timer=timer)
        self._drop_gradient()

    def gradient(self, batches: Sequence[Batch]) -> tuple[float, list[Tensor]]:
        """Return the loss of one step over some micro-batches and its gradient by parameter, without an update.

        The computation is that of a training step. A scaled loss is scaled as much as possible.
        """
        num_examples = sum(len(batch.sizes_B2) for batch in batches)
        timer = make_timer(self.device)
        scale = self._scaler.get_scale()
        while True:
            timer.begin_step()
            self._drop_gradient()
            loss = sum(float(self._accumulate(batch, num_examples=num_examples, timer=timer)) for batch in batches)
            gradients = [
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad / scale
                for parameter in self.model.parameters()
            ]
            is_finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
            if is_finite or not self._scaler.is_enabled() or scale < MIN_SCALE:
                self._drop_gradient()
                return loss, gradients
            # The scaler does the same in training after an overflow, in smaller steps.
            scale /= OVERFLOW_STRIDE
            self._scaler = torch.amp.GradScaler(self.device.type, init_scale=scale)

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """The scaler of the loss; it does nothing in a precision that needs none."""
        return self._scaler

    @property
    def loss_scale(self) -> float:
        """Last scale of the loss; 1 if the precision needs no scaling."""
        return float(self._scaler.get_scale())

    def _drop_gradient(self) -> None:
        # If the gradient were None, it would become the memory that a replay writes to, and be added to itself.
        self.optimizer.zero_grad(set_to_none=not self.is_replayed)

    def num_updates(self) -> Tensor:
        """Return a copy of the optimizer's update count, on the host unless it is fused; 0 before any update."""
        state = self.optimizer.state[self._first_parameter]
        num_updates: Tensor = state["step"] if "step" in state else torch.zeros(())
        return num_updates.clone()

    def _accumulate(self, batch: Batch, *, num_examples: int, timer: StepTimer) -> Tensor:
        """Add a micro-batch's share to the step's gradient; return its share of the loss."""
        with timer.phase("h2d"):
            images_BCHW, targets_BHW, valid_BHW = device_tensors(to_device(batch, self.device, non_blocking=True))
        with timer.phase("forward"):
            loss = self._loss_of_pass(images_BCHW, targets_BHW, valid_BHW) / num_examples
        with timer.phase("backward"):
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        return loss.detach()

    def _loss_sum(self, images_BCHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
        """Return the sum of the examples' losses, from the network's forward pass and the loss."""
        with torch.autocast(self.device.type, dtype=self._autocast_dtype, enabled=self._autocast_dtype is not None):
            logits_BKHW = self.logits(self.model, images_BCHW, valid_BHW)
        return self.loss_of(logits_BKHW, targets_BHW, valid_BHW)

    def logits(self, network: Callable[..., Tensor], images_BCHW: Tensor, valid_BHW: Tensor) -> Tensor:
        """Return what this network, or a framework's wrapper of it, makes of images; autocast is the caller's."""
        images_BCHW = lay_out_images(images_BCHW, self._memory_format)
        return network(images_BCHW, valid_BHW) if self._is_exact else network(images_BCHW)

    def loss_of(self, logits_BKHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor) -> Tensor:
        """Return the sum of the examples' losses."""
        return tversky_loss_sum(logits_BKHW, targets_BHW, valid_BHW, ignored_class=self._ignored_class)


def autocast_dtype(precision: Precision) -> torch.dtype | None:
    """Return the dtype that autocast converts inputs to under a precision; None without autocast."""
    name = PRECISIONS[precision].autocast
    return None if name is None else getattr(torch, name)


def build_step(spec: TrialSpec, *, device: torch.device) -> OptimizerStep:
    """Return the optimizer step of a spec with its model on the device and weights drawn from the spec's seed.

    Set the switches of the whole process (vnbench.trial.step.switches) first.
    """
    if device.type == "cpu":
        keep_freed_memory()
    model = drawn_network(spec, device=device)
    if spec.compile == "default":
        compile_model(model, device=device)
    step = step_of(spec, model, device=device)
    if spec.compile == "step":
        step.compile_passes()
    if spec.cuda_graphs == "on":
        step.graph_passes()
    return step


def drawn_network(spec: TrialSpec, *, device: torch.device) -> nn.Module:
    """Return the network of a spec on a device, laid out for training, with weights drawn from the spec's seed."""
    torch.manual_seed(spec.seed)
    return lay_out(build_network(spec), spec.memory_format, device=device).train()


def step_of(
    spec: TrialSpec,
    model: nn.Module,
    *,
    device: torch.device,
    make_scaler: Callable[..., torch.amp.GradScaler] | None = None,
) -> OptimizerStep:
    """Return the optimizer step of a spec with a given network; the gradient scaler is torch's unless given."""
    return OptimizerStep(
        model,
        precision=spec.precision,
        device=device,
        memory_format=spec.memory_format,
        optimizer=spec.optimizer,
        padding=spec.padding,
        ignores_pixels=isinstance(spec, ImagesSpec) and spec.ignore_value is not None,
        make_scaler=make_scaler,
    )
