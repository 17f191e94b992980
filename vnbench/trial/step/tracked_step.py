"""Peak memory of one step on the CPU, measured by the live-tensor tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from vnbench.loading.collate import Batch
from vnbench.records.readings import MemoryReading
from vnbench.trial.instruments.memory import LiveTensorTracker, tracked_memory
from vnbench.trial.instruments.stage_memory import optimizer_tensors
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult


def run_tracked(
    step: OptimizerStep, batches: Sequence[Batch], run_step: Callable[[], StepResult]
) -> tuple[StepResult, MemoryReading]:
    """Return the result of ``run_step`` and the peak of the bytes of live tensors meanwhile.

    Model, gradients, optimizer state and ``batches`` exist before, and count from the start; the gradients count until
    the step drops them.
    """
    tracker = LiveTensorTracker()
    with tracker:
        # No name may hold these: the step frees the gradients of the step before.
        tracker.track(_existing(step, batches))
        result = run_step()
    tracker.close()
    return result, tracked_memory(tracker)


def _existing(step: OptimizerStep, batches: Sequence[Batch]) -> Iterator[Tensor]:
    for parameter in step.model.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad
    yield from step.model.buffers()
    yield from optimizer_tensors(step.optimizer)
    for batch in batches:
        yield from batch
