"""Steps whose loop is the project's, with network, optimizer and backward pass wrapped by Lightning's Fabric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision

from vnbench.loading.collate import Batch, device_tensors, to_device
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.frameworks.looped import as_plugin
from vnbench.trial.instruments.timing import PhaseTimes, StepTimer
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult


class FabricStep:
    """A step that runs through Fabric."""

    is_replayed = False

    def __init__(self, step: OptimizerStep, spec: TrialSpec) -> None:
        self.device = step.device
        self._step = step
        self._fabric = Fabric(
            accelerator="gpu" if step.device.type == "cuda" else "cpu",
            devices=1,
            **as_plugin(MixedPrecision, spec.precision, step),
        )
        self._network, self._optimizer = self._fabric.setup(step.model, step.optimizer)

    def run_block(
        self, micro_batches: Iterator[Batch], *, num_examples: Sequence[int], timer: StepTimer
    ) -> tuple[list[StepResult], PhaseTimes, float]:
        """Run a step for each number of examples, and return the results, the times and the wall-clock seconds."""
        timer.begin_block()
        results = [self._run(micro_batches, num_examples=number, timer=timer) for number in num_examples]
        return results, *timer.end_block()

    def call(self, function: Callable[[], None]) -> None:
        """Run a function: this thread computes."""
        function()

    def visit(self, batch: Batch, *, timer: StepTimer) -> None:
        """Run one pass over a batch and drop its gradient."""
        self._step.visit(batch, timer=timer)

    def _run(self, micro_batches: Iterator[Batch], *, num_examples: int, timer: StepTimer) -> StepResult:
        timer.begin_step()
        with timer.phase("optimizer"):
            self._optimizer.zero_grad(set_to_none=True)
        loss_of_step = torch.zeros((), device=self.device)
        num_seen = 0
        while num_seen < num_examples:
            with timer.phase("data_wait"):
                batch = next(micro_batches)
            num_seen += len(batch.sizes_B2)
            with timer.phase("h2d"):
                tensors = device_tensors(to_device(batch, self.device, non_blocking=True))
            with timer.phase("forward"):
                logits_BKHW = self._step.logits(self._network, tensors.images_BCHW, tensors.valid_BHW)
                loss = self._step.loss_of(logits_BKHW, tensors.targets_BHW, tensors.valid_BHW) / num_examples
            with timer.phase("backward"):
                self._fabric.backward(loss)
            loss_of_step += loss.detach()
        with timer.phase("optimizer"):
            self._optimizer.step()
        return StepResult(loss=loss_of_step, num_updates=self._step.num_updates())
