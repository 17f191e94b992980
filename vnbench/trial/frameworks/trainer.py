"""Steps that Lightning's Trainer runs, with the project's network, loss and batches handed to it as a user would."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from vnbench.loading.collate import Batch, DeviceTensors, device_tensors, to_device
from vnbench.processes.scratch import scratch_folder
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import Loop, LoopFeatures
from vnbench.trial.frameworks.feed import Feed, HandedPass
from vnbench.trial.frameworks.looped import as_plugin
from vnbench.trial.instruments.timing import Phase, PhaseTimes, StepTimer
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult


class PlannedModule(pl.LightningModule):
    """The network of a trial with its optimizer; each batch is a pass of a planned step."""

    def __init__(self, step: OptimizerStep, feed: Feed, *, loop: Loop, logs_loss: bool) -> None:
        super().__init__()
        self.automatic_optimization = loop == "lightning-automatic"
        self.network = step.model
        self._step, self._feed, self._logs_loss = step, feed, logs_loss
        self._phases = ExitStack()
        self._step.optimizer.register_step_post_hook(lambda *_: self._phases.close())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the trial's optimizer."""
        return self._step.optimizer

    def transfer_batch_to_device(
        self, batch: HandedPass, device: torch.device, dataloader_idx: int
    ) -> tuple[HandedPass, DeviceTensors]:
        """Return the pass with its tensors on the device."""
        with self._feed.timer.phase("h2d"):
            return batch, device_tensors(to_device(batch.batch, self._step.device, non_blocking=True))

    def training_step(self, batch: tuple[HandedPass, DeviceTensors], batch_idx: int) -> Tensor | None:
        """Run the forward pass of a pass, and if optimization is manual, its backward pass and the step's update."""
        one, tensors = batch
        optimizer = None if self.automatic_optimization else self._optimizer()
        if optimizer is not None and one.is_first:
            with self._feed.timer.phase("optimizer"):
                optimizer.zero_grad(set_to_none=True)
        with self._feed.timer.phase("forward"):
            logits_BKHW = self._step.logits(self.network, tensors.images_BCHW, tensors.valid_BHW)
            loss = self._step.loss_of(logits_BKHW, tensors.targets_BHW, tensors.valid_BHW) / one.num_examples
        self._feed.add_loss(loss)
        if self._logs_loss:
            self.log("loss", loss.detach(), on_step=True, batch_size=len(one.batch.sizes_B2))
        if optimizer is None:
            # Lightning divides each loss by the passes of a window; the examples of the step divide it already.
            return loss * self.trainer.accumulate_grad_batches
        with self._feed.timer.phase("backward"):
            self.manual_backward(loss)
        if one.is_last:
            with self._feed.timer.phase("optimizer"):
                optimizer.step()
        return None

    def on_before_backward(self, loss: Tensor) -> None:
        """Start the phase of an automatic backward pass."""
        if self.automatic_optimization:
            self._enter("backward")

    def on_after_backward(self) -> None:
        """End the phase of an automatic backward pass."""
        if self.automatic_optimization:
            self._phases.close()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Start the phase of an automatic update; the optimizer's hook ends it, or the pass where it is skipped."""
        if self.automatic_optimization:
            self._enter("optimizer")

    def on_train_batch_end(self, outputs: Any, batch: tuple[HandedPass, DeviceTensors], batch_idx: int) -> None:
        """Tell the feed that a step's last pass is over."""
        self._phases.close()
        if batch[0].is_last:
            self._feed.end_step(self._step.num_updates())

    def _enter(self, name: Phase) -> None:
        self._phases.close()
        self._phases.enter_context(self._feed.timer.phase(name))

    def _optimizer(self) -> Any:
        """Return Lightning's wrapper of the optimizer."""
        return self.optimizers()


class TrainerStep:
    """A step whose passes Lightning's Trainer runs."""

    is_replayed = False

    def __init__(self, step: OptimizerStep, spec: TrialSpec, *, folder: Path, num_passes: int | None) -> None:
        self.device = step.device
        self._step = step
        self._feed = Feed(
            lambda feed: _fit(step, spec, feed, folder=folder),
            device=step.device,
            num_passes=num_passes,
        )

    def run_block(
        self, micro_batches: Iterator[Batch], *, num_examples: Sequence[int], timer: StepTimer
    ) -> tuple[list[StepResult], PhaseTimes, float]:
        """Let the Trainer run a step for each number of examples, and return results, times and wall-clock seconds."""
        return self._feed.run_block(micro_batches, num_examples=num_examples, timer=timer)

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in the Trainer's thread."""
        self._feed.call(function)

    def visit(self, batch: Batch, *, timer: StepTimer) -> None:
        """Run one pass over a batch in the Trainer's thread, and drop its gradient."""
        self.call(lambda: self._step.visit(batch, timer=timer))

    def close(self) -> None:
        """End the Trainer's training."""
        self._feed.close()


@contextmanager
def trained_by_lightning(
    step: OptimizerStep, spec: TrialSpec, *, num_passes: int | None = None
) -> Iterator[TrainerStep]:
    """Enter a context with the step in a Trainer; what the Trainer writes is deleted at its end.

    The Trainer expects ``num_passes``, and so knows its last one; None for passes without end.
    """
    with scratch_folder("vnbench-trainer-") as folder:
        trained = TrainerStep(step, spec, folder=folder, num_passes=num_passes)
        try:
            yield trained
        finally:
            trained.close()


def _fit(step: OptimizerStep, spec: TrialSpec, feed: Feed, *, folder: Path) -> None:
    """Train on a feed until it ends."""
    _hush()
    module = PlannedModule(step, feed, loop=spec.loop, logs_loss=spec.loop_features == "log")
    trainer = pl.Trainer(
        accelerator="gpu" if step.device.type == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        use_distributed_sampler=False,
        accumulate_grad_batches=spec.accumulation_steps if spec.loop == "lightning-automatic" else 1,
        default_root_dir=folder,
        **_features(spec.loop_features, folder=folder),
        **as_plugin(MixedPrecision, spec.precision, step),
    )
    trainer.fit(module, train_dataloaders=feed)


def _features(features: LoopFeatures, *, folder: Path) -> dict[str, Any]:
    """Return what a Trainer is given for what it does beside training."""
    if features == "barebones":
        return {"barebones": True}
    if features == "log":
        return {
            "logger": CSVLogger(folder),
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
    return {}


def _hush() -> None:
    """Keep Lightning's notices out of a trial's output: what they suggest is what is measured here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
