"""What a process of fake CUDA is asked to run beside whole trials: parts of them, each from a text to a text."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import repeat
from typing import Any

import torch
from fake_cuda.device import is_on_cuda

from vnbench.loading.collate import blank_batch
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.step_trace import TraceOrder
from vnbench.records.task import TrialTask
from vnbench.trial.checks.equality import check_equality
from vnbench.trial.checks.large_tensors import compare_with_parts, find_large_tensors
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.step.optimizer_step import build_step
from vnbench.trial.step.switches import set_switches
from vnbench.trial.tracing.recorder import Recorder
from vnbench.trial.tracing.step_tracing import NUM_STEPS, moved

HEIGHT, WIDTH = 64, 96


def _spec(payload: str) -> TrialSpec:
    spec = TrialTask.from_json(payload).spec
    set_switches(spec)
    return spec


def timed_step(payload: str) -> str:
    """Time a step of as many passes as the spec accumulates, which were captured before where they are replayed."""
    spec = _spec(payload)
    step = build_step(spec, device=torch.device(spec.device))
    batches = [blank_batch(spec.micro_batch_size, height=HEIGHT, width=WIDTH) for _ in range(spec.accumulation_steps)]
    if step.is_replayed:
        step.visit(batches[0], timer=make_timer(step.device))
    timer = make_timer(step.device)
    timer.begin_block()
    result = step.run(iter(batches), num_examples=spec.batch_size, timer=timer)
    times, _ = timer.end_block()
    state: dict[str, Any] = step.optimizer.state[next(step.model.parameters())]
    told = {"loss": float(result.loss), "num_updates": float(result.num_updates), "times": times}
    return json.dumps(told | {"state_devices": {name: value.device.type for name, value in state.items()}})


def equality(payload: str) -> str:
    """Hold the step of a spec against the plain one."""
    return json.dumps(asdict(check_equality(_spec(payload))))


def large_tensors(payload: str) -> str:
    """Hold a pass of the largest examples against its parts."""
    spec = _spec(payload)
    found = find_large_tensors(spec, num_examples=spec.micro_batch_size, height=640, width=12_800)
    assert found is not None
    return json.dumps(asdict(compare_with_parts(spec, found, equality=check_equality(spec))))


def recorded_steps(payload: str) -> str:
    """Run the steps that a trace follows, under the same recorder, and return what it saw."""
    spec = TraceOrder.from_json(payload).spec
    set_switches(spec)
    step = build_step(spec, device=torch.device(spec.device))
    recorder = Recorder(is_on_card=is_on_cuda, has_host_numbers=spec.optimizer != "fused")
    step.optimizer.register_step_pre_hook(lambda *_: recorder.is_updating(True))
    step.optimizer.register_step_post_hook(lambda *_: recorder.is_updating(False))
    recorder.track(moved(step.model))
    batch = blank_batch(spec.micro_batch_size, height=spec.worst_case_height, width=spec.worst_case_width)
    with recorder:
        for _ in range(NUM_STEPS):
            step.run(repeat(batch), num_examples=spec.batch_size, timer=recorder)
    operators = list(recorder.operators)
    ran = [asdict(operators[place]) for place in recorder.sequence]
    return json.dumps({"operators": ran, "events": asdict(recorder.close())})
