"""Peak memory of one step on the CPU, measured by the live-tensor tracker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vnbench.loading.collate import Batch
from vnbench.records.readings import MemoryReading
from vnbench.trial.instruments.memory import LiveTensorTracker, tracked_memory
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult


def run_tracked(
    step: OptimizerStep, batches: Sequence[Batch], run_step: Callable[[], StepResult]
) -> tuple[StepResult, MemoryReading]:
    """Return the result of ``run_step`` and the peak of the bytes of live tensors meanwhile.

    Model, gradients, optimizer state and ``batches`` exist before, and count from the start.
    """
    tracker = LiveTensorTracker()
    existing = [*step.model.parameters(), *step.model.buffers()]
    existing += [parameter.grad for parameter in step.model.parameters() if parameter.grad is not None]
    existing += [value for state in step.optimizer.state.values() for value in state.values()]
    existing += [tensor for batch in batches for tensor in batch]
    with tracker:
        tracker.track(existing)
        result = run_step()
    tracker.close()
    return result, tracked_memory(tracker)
