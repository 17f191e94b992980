"""Steps as trials time them, whoever runs their passes: the own loop, or a framework to which they are handed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from vnbench.loading.collate import Batch
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import TRAINER_LOOPS, Precision
from vnbench.trial.instruments.timing import PhaseTimes, StepTimer
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult


class TimedStep(Protocol):
    """Runs blocks of optimizer steps and times them."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def is_replayed(self) -> bool:
        """Whether passes are replays of captured ones."""

    def run_block(
        self, micro_batches: Iterator[Batch], *, num_examples: Sequence[int], timer: StepTimer
    ) -> tuple[list[StepResult], PhaseTimes, float]:
        """Run a step for each number of examples, and return the results, the times and the wall-clock seconds."""

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in the thread that computes: libraries keep threads and what they prepared by thread."""

    def visit(self, batch: Batch, *, timer: StepTimer) -> None:
        """Run one pass over a batch and drop its gradient, to pay the one-time cost of a new shape."""


def looped(step: OptimizerStep, spec: TrialSpec, *, num_passes: int | None = None) -> AbstractContextManager[TimedStep]:
    """Return a context with the step as the loop of a spec runs it.

    A Trainer expects ``num_passes``, None for passes without end. Frameworks are imported here and not before: that
    takes seconds, and they are installed only where they are wanted.
    """
    if spec.loop in TRAINER_LOOPS:
        from vnbench.trial.frameworks.trainer import trained_by_lightning

        return trained_by_lightning(step, spec, num_passes=num_passes)
    if spec.loop == "fabric":
        from vnbench.trial.frameworks.fabric import FabricStep

        return nullcontext(FabricStep(step, spec))
    return nullcontext(step)


def as_plugin(mixed: Callable[..., Any], precision: Precision, step: OptimizerStep) -> dict[str, Any]:
    """Return what a Trainer or Fabric is given for a precision; ``mixed`` is its plugin for reduced ones.

    Given by name, fp16 would become bf16 on a CPU.
    """
    arithmetic = PRECISIONS[precision]
    if arithmetic.autocast is None:
        return {"precision": "32-true"}
    name = "16-mixed" if arithmetic.autocast == "float16" else "bf16-mixed"
    scaler = step.scaler if arithmetic.scales_loss else None
    return {"plugins": mixed(name, device=step.device.type, scaler=scaler)}
