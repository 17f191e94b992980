from __future__ import annotations

from typing import Any

import pytest
import torch
from record_factory import training_spec

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate
from vnbench.model.veernet import VeerNet
from vnbench.trial.instruments.memory import LiveTensorTracker
from vnbench.trial.instruments.stage_memory import (
    KINDS,
    OUTSIDE,
    StageMemory,
    StageTracker,
    optimizer_tensors,
    watched_stages,
)
from vnbench.trial.kinds.profile import PhaseTimer
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step

HEIGHT, WIDTH = 64, 320


def example_batch() -> Batch:
    return collate([draw_example(seed=0, index=0, height=HEIGHT, width=WIDTH, task="multiclass")])


def warm_step(**changes: Any) -> tuple[OptimizerStep, VeerNet]:
    """Return a step that has its optimizer's state, as any but the first."""
    step = build_step(training_spec(batch_size=1, **changes), device=torch.device("cpu"))
    step.run(iter([example_batch()]), num_examples=1, timer=PhaseTimer(StageTracker()))
    step.optimizer.zero_grad(set_to_none=True)
    assert isinstance(step.model, VeerNet)
    return step, step.model


def seen(**changes: Any) -> StageMemory:
    step, model = warm_step(**changes)
    batch = example_batch()
    tracker = StageTracker()
    with tracker, watched_stages(tracker, model.stages):
        for stage, module in model.stages.items():
            tracker.track_as([*module.parameters(), *module.buffers()], kind="parameters", stage=stage)
        tracker.track_as(optimizer_tensors(step.optimizer), kind="optimizer state", stage=OUTSIDE)
        tracker.track_as(list(batch), kind="inputs", stage=OUTSIDE)
        step.run(iter([batch]), num_examples=1, timer=PhaseTimer(tracker))
        result = tracker.result()
    tracker.close()
    return result


def of_kind(memory: StageMemory, kind: str) -> int:
    return sum(size for (_, own), size in memory.at_peak.items() if own == kind)


def test_stages_and_kinds_sum_to_the_peak_of_a_tracker_that_knows_neither() -> None:
    memory = seen()
    assert sum(memory.at_peak.values()) == memory.peak_bytes
    assert {kind for _, kind in memory.at_peak} <= set(KINDS)

    step, model = warm_step()
    batch = example_batch()
    plain = LiveTensorTracker()
    with plain:
        plain.track([*model.parameters(), *model.buffers(), *optimizer_tensors(step.optimizer), *batch])
        step.run(iter([batch]), num_examples=1, timer=PhaseTimer(StageTracker()))
    plain.close()
    assert memory.peak_bytes == plain.peak_bytes


def test_parameters_state_and_gradients_are_what_the_network_says() -> None:
    _, model = warm_step()
    parameters = sum(parameter.numel() * 4 for parameter in model.parameters())
    memory = seen()
    assert of_kind(memory, "parameters") == parameters
    # AdamW keeps two numbers per parameter, and a count per tensor.
    counts = 4 * len(list(model.parameters()))
    assert of_kind(memory, "optimizer state") == 2 * parameters + counts
    _, last = memory.timeline[-1]
    assert sum(size for (_, kind), size in last.items() if kind == "gradients") == parameters
    for stage, module in model.stages.items():
        own = sum(parameter.numel() * 4 for parameter in module.parameters())
        assert last.get((stage, "gradients"), 0) == own, stage


def test_activations_belong_to_the_stage_that_made_them() -> None:
    _, model = warm_step()
    memory = seen()
    activations = {stage: size for (stage, kind), size in memory.at_peak.items() if kind == "activations"}
    # The first decoder stage works at half of what the last one does, on a fourth of its pixels.
    assert activations["decoder 1"] > activations["encoder 1"] > activations["encoder 5"] > 0
    # What the stem leaves behind: its convolution's output and the norm's, 4 channels each.
    assert activations["stem"] >= 2 * 4 * HEIGHT * WIDTH * 4
    assert set(activations) <= {*model.stages, OUTSIDE}


def test_the_phases_follow_each_other_and_the_backward_pass_runs_through_the_stages_in_reverse() -> None:
    memory = seen()
    phases = [phase for phase, _ in memory.timeline]
    first, last = phases.index("backward"), len(phases) - 1 - phases[::-1].index("backward")
    assert set(phases[first : last + 1]) == {"backward"}
    assert phases[-1] == "optimizer"
    assert memory.peak_phase in ("forward", "backward")


def test_checkpointing_keeps_less_between_the_passes() -> None:
    plain, checkpointed = seen(), seen(checkpointing="stages")
    assert checkpointed.peak_bytes < 0.8 * plain.peak_bytes
    assert of_kind(checkpointed, "parameters") == of_kind(plain, "parameters")


def test_reduced_norm_precision_saves_activations() -> None:
    wide, narrow = (seen(precision="bf16", norm_precision=precision) for precision in ("fp32", "input"))
    assert of_kind(narrow, "activations") < of_kind(wide, "activations")


def test_no_hook_is_left_behind() -> None:
    _, model = warm_step()
    with StageTracker() as tracker, watched_stages(tracker, model.stages):
        pass
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(not parameter._post_accumulate_grad_hooks for parameter in model.parameters())


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_stages_are_the_whole_network(task: str) -> None:
    _, model = warm_step(task=task)
    in_stages = [id(parameter) for stage in model.stages.values() for parameter in stage.parameters()]
    assert sorted(in_stages) == sorted(map(id, model.parameters()))
