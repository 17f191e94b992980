from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
import torch

from vnbench.loading.collate import Batch, blank_batch
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.step_trace import StepTrace, TraceOrder
from vnbench.request.own_model import read_own_model
from vnbench.trial.instruments.memory import LiveTensorTracker
from vnbench.trial.kinds.worst_case import train
from vnbench.trial.step.optimizer_step import build_step
from vnbench.trial.tracing.step_tracing import trace_step, traced_steps

HOPPER = (9, 0)
GIB = 2**30
BATCH_BYTES = 2 * 64 * 96 + 2 * 4
"""Image and mask in bytes, and two numbers of 32 bits."""

LEVERS: Mapping[str, dict[str, Any]] = {
    "fp32": {},
    "bf16, norm in bf16": {"precision": "bf16", "norm_precision": "input"},
    "bf16, stages": {"precision": "bf16", "checkpointing": "stages"},
    "selective, fp16, foreach": {"checkpointing": "selective", "precision": "fp16", "optimizer": "foreach"},
    "channels-last": {"memory_format": "channels-last", "model": "veernet"},
    "split norm, exact": {"norm_kernel": "split", "padding": "exact", "precision": "bf16"},
}


def spec_of(*, height: int = 64, width: int = 96, passes: int = 1, **changes: Any) -> MemorySpec:
    training = factory.training_spec(**({"device": "cuda"} | changes))
    spec = factory.memory_spec(training, height=height, width=width)
    return dataclasses.replace(spec, batch_size=passes * spec.micro_batch_size)


def traced(**changes: Any) -> StepTrace:
    return trace_step(TraceOrder(spec=spec_of(**changes), capability=HOPPER))


def own(function: str, folder: Path, source: str) -> dict[str, Any]:
    path = folder / "network.py"
    path.write_text(f"import torch\nfrom torch import nn\n\n{source}")
    model = read_own_model(f"{path}:{function}", where="--model")
    return {"model": model.name, "model_id": model.model_id}


def tracked_peak(spec: MemorySpec, batch: Batch) -> int:
    """Return the peak of the second of two real steps, its batch included."""
    step = build_step(spec, device=torch.device("cpu"))
    train(step, batch)
    step.optimizer.zero_grad()
    with LiveTensorTracker() as tracker:
        tracker.track([*step.model.parameters(), *batch])
        # As CUDA has it: the count of updates lies with the optimizer's state where it is fused.
        tracker.track(value for state in step.optimizer.state.values() for value in state.values())
        train(step, batch)
    tracker.close()
    return tracker.peak_bytes


@pytest.mark.parametrize("levers", LEVERS.values(), ids=LEVERS)
def test_under_the_rules_of_the_cpu_the_peak_is_that_of_a_real_step(levers: dict[str, Any]) -> None:
    spec = spec_of(device="cpu", **levers)
    peak_bytes = traced_steps(spec, capability=None).peak_bytes()[2]
    # On the CPU a batch stays where it is, and there all the while; on a card its bytes go when they were widened.
    real_bytes = tracked_peak(spec, blank_batch(1, height=64, width=96)) - BATCH_BYTES
    assert peak_bytes == pytest.approx(real_bytes, rel=0.001)


FIGURES = {
    "fp32": ({}, 10.95),
    "bf16": ({"precision": "bf16"}, 11.15),
    "bf16, norm in bf16": ({"precision": "bf16", "norm_precision": "input"}, 5.58),
    "the same, stages": ({"precision": "bf16", "norm_precision": "input", "checkpointing": "stages"}, 3.08),
}
