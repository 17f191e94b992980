from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from record_factory import training_spec
from torch import Tensor, nn

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, blank_batch, collate
from vnbench.model.veernet import build_model
from vnbench.records.spec.words import IGNORED_CLASS, Checkpointing, OptimizerLoop, Precision
from vnbench.trial.instruments.timing import Phase, WallTimer
from vnbench.trial.step.optimizer_step import OptimizerStep, StepResult, build_step
from vnbench.trial.step.switches import set_switches
from vnbench.trial.step.tracked_step import run_tracked

RAGGED = [(33, 70), (64, 96), (50, 64), (20, 33)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def batch(sizes: list[tuple[int, int]], *, first: int = 0, canvas: tuple[int, int] = (64, 96)) -> Batch:
    examples = [
        draw_example(seed=0, index=first + i, height=height, width=width, task="multiclass")
        for i, (height, width) in enumerate(sizes)
    ]
    return collate(examples, canvas=canvas)


def small_model(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "num_classes": 3,
        "norm_groups": "half-or-16",
        "norm_precision": "fp32",
        "checkpointing": "none",
    }
    return build_model("veernet-tiny", **(defaults | options))


def gradient_after(step: OptimizerStep, micro_batches: list[Batch]) -> Tensor:
    num_examples = sum(len(item.sizes_B2) for item in micro_batches)
    step.run(iter(micro_batches), num_examples=num_examples, timer=WallTimer())
    return torch.cat([p.grad.flatten() for p in step.model.parameters() if p.grad is not None]).double().cpu()


class OrderTimer(WallTimer):
    """Notes the phases in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        self.order.append(name)
        return super().phase(name)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_of_four_equals_its_micro_batches_on_one_canvas(device: str) -> None:
    def gradient(*micro_batches: Batch) -> Tensor:
        model = small_model().to(device)
        return gradient_after(OptimizerStep(model, precision="fp32", device=torch.device(device)), list(micro_batches))

    whole = gradient(batch(RAGGED))
    accumulated = gradient(batch(RAGGED[:1]), batch(RAGGED[1:3], first=1), batch(RAGGED[3:], first=3))
    assert (whole - accumulated).norm() <= 1e-4 * whole.norm()


def test_phases_follow_zero_forward_backward_step() -> None:
    step = OptimizerStep(small_model(), precision="fp32", device=torch.device("cpu"))
    timer = OrderTimer()
    step.run(iter([batch(RAGGED[:1]), batch(RAGGED[1:2])]), num_examples=2, timer=timer)
    one_pass = ["data_wait", "h2d", "forward", "backward"]
    assert timer.order == ["optimizer", *one_pass, *one_pass, "optimizer"]


def test_gradients_of_one_step_do_not_reach_the_next() -> None:
    step = OptimizerStep(small_model(), precision="fp32", device=torch.device("cpu"))
    for group in step.optimizer.param_groups:
        group["lr"] = 0.0
        group["weight_decay"] = 0.0
    first = gradient_after(step, [batch(RAGGED)])
    again = gradient_after(step, [batch(RAGGED)])
    assert torch.equal(first, again)


def test_a_step_takes_no_more_micro_batches_than_its_examples() -> None:
    step = OptimizerStep(small_model(), precision="fp32", device=torch.device("cpu"))
    batches: Iterator[Batch] = iter([batch(RAGGED[:2]), batch(RAGGED[2:3]), batch(RAGGED[3:])])
    step.run(batches, num_examples=3, timer=WallTimer())
    assert len(list(batches)) == 1


def test_gradients_that_a_step_drops_are_no_part_of_its_peak() -> None:
    step = OptimizerStep(small_model(), precision="fp32", device=torch.device("cpu"))
    data = batch(RAGGED)

    def run() -> StepResult:
        return step.run(iter([data]), num_examples=len(RAGGED), timer=WallTimer())

    run()  # makes the optimizer's state, and leaves a gradient
    _, after_a_step = run_tracked(step, [data], run)
    step.optimizer.zero_grad(set_to_none=True)
    _, after_none = run_tracked(step, [data], run)
    assert after_a_step.peak_allocated_bytes == after_none.peak_allocated_bytes


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("norm_precision", ["fp32", "input"])
def test_the_loss_falls_in_every_precision(device: str, precision: Precision, norm_precision: str) -> None:
    model = small_model(norm_precision=norm_precision).to(device)
    step = OptimizerStep(model, precision=precision, device=torch.device(device))
    for group in step.optimizer.param_groups:
        group["lr"] = 3e-3
    data = batch(RAGGED[2:])
    losses = [float(step.run(iter([data]), num_examples=2, timer=WallTimer()).loss) for _ in range(12)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("device", DEVICES)
def test_an_update_that_the_scaler_leaves_out_shows_in_the_count(device: str) -> None:
    step = OptimizerStep(small_model().to(device), precision="fp16", device=torch.device(device))
    data = batch(RAGGED)
    before = step.run(iter([data]), num_examples=4, timer=WallTimer())
    hook = next(step.model.parameters()).register_hook(lambda grad: grad * float("inf"))
    skipped = step.run(iter([data]), num_examples=4, timer=WallTimer())
    hook.remove()
    after = step.run(iter([data]), num_examples=4, timer=WallTimer())
    counts = [float(result.num_updates) for result in (before, skipped, after)]
    assert counts[1] == counts[0]
    assert counts[2] == counts[1] + 1


def test_visiting_a_shape_leaves_no_gradient_and_no_update() -> None:
    step = OptimizerStep(small_model(), precision="fp32", device=torch.device("cpu"))
    before = [parameter.clone() for parameter in step.model.parameters()]
    step.visit(blank_batch(2, height=64, width=96), timer=WallTimer())
    assert all(parameter.grad is None for parameter in step.model.parameters())
    assert all(map(torch.equal, before, step.model.parameters()))
    assert float(step.run(iter([batch(RAGGED)]), num_examples=4, timer=WallTimer()).num_updates) == 1


SWITCHES: list[dict[str, Any]] = [
    {"memory_format": "channels-last"},
    {"memory_format": "channels-last", "checkpointing": "stages"},
    {"optimizer": "foreach"},
    {"optimizer": "for-loop"},
    {"cudnn_benchmark": "on"},
]


def loss_and_gradient(device: str, **changes: Any) -> tuple[float, Tensor]:
    spec = training_spec(device=device, batch_size=4, **changes)
    set_switches(spec)
    step = build_step(spec, device=torch.device(device))
    result = step.run(iter([batch(RAGGED[:1]), batch(RAGGED[1:], first=1)]), num_examples=4, timer=WallTimer())
    gradients = [parameter.grad for parameter in step.model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return float(result.loss), torch.cat([p.flatten() for p in gradients if p is not None]).double().cpu()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: "-".join(switch.values()))
def test_every_switch_gives_the_loss_and_gradient_of_the_plain_step(device: str, switch: dict[str, Any]) -> None:
    plain_loss, plain = loss_and_gradient(device)
    loss, gradient = loss_and_gradient(device, **switch)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert (gradient - plain).norm() <= 1e-4 * plain.norm()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("checkpointing", ["none", "stages"])
def test_channels_last_is_no_less_exact_in_reduced_precision(
    device: str, precision: Precision, checkpointing: Checkpointing
) -> None:
    _, exact = loss_and_gradient(device)
    scale = 2.0**16 if precision == "fp16" else 1.0  # the gradient scaler's first factor
    errors = [
        loss_and_gradient(device, precision=precision, checkpointing=checkpointing, memory_format=memory_format)[1]
        / scale
        - exact
        for memory_format in ("contiguous", "channels-last")
    ]
    assert errors[1].norm() <= 2 * errors[0].norm()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["foreach", "for-loop"])
def test_every_way_over_the_parameters_makes_the_same_update_and_counts_it(
    device: str, optimizer: OptimizerLoop
) -> None:
    def parameters_after(way: OptimizerLoop) -> tuple[Tensor, list[float]]:
        step = build_step(training_spec(device=device, optimizer=way), device=torch.device(device))
        results = [step.run(iter([batch(RAGGED[:1])]), num_examples=1, timer=WallTimer())]
        # Of the first update: rounding in it may turn a ReLU, and with it the next gradient.
        parameters = torch.cat([parameter.detach().flatten() for parameter in step.model.parameters()])
        results += [step.run(iter([batch(RAGGED[:1])]), num_examples=1, timer=WallTimer()) for _ in range(2)]
        return parameters, [float(result.num_updates) for result in results]

    fused, fused_counts = parameters_after("fused")
    parameters, counts = parameters_after(optimizer)
    assert (parameters - fused).norm() <= 1e-5 * fused.norm()
    assert counts == fused_counts == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["fused", "foreach", "for-loop"])
def test_a_first_update_that_the_scaler_leaves_out_counts_as_none(device: str, optimizer: OptimizerLoop) -> None:
    step = build_step(training_spec(device=device, precision="fp16", optimizer=optimizer), device=torch.device(device))
    next(step.model.parameters()).register_hook(lambda grad: grad * float("inf"))
    assert float(step.run(iter([batch(RAGGED[:1])]), num_examples=1, timer=WallTimer()).num_updates) == 0


@pytest.mark.gpu
def test_tf32_changes_the_result_and_fp32_does_not() -> None:
    def logits(precision: Precision) -> Tensor:
        model = small_model().cuda()
        set_switches(training_spec(device="cuda", precision=precision))
        torch.manual_seed(1)
        return model(torch.rand(1, 1, 64, 96, device="cuda"))

    exact, again, rounded = logits("fp32"), logits("fp32"), logits("tf32")
    assert (exact - again).norm() <= 1e-5 * exact.norm()
    assert (exact - rounded).norm() > 1e-5 * exact.norm()


def test_a_step_leaves_ignored_pixels_out_of_the_loss_and_shows_them_to_the_network() -> None:
    plain, ignoring = (build_step(training_spec(ignore_value=value), device=torch.device("cpu")) for value in (None, 9))
    image_HW, mask_HW = draw_example(seed=0, index=0, height=64, width=96, task="multiclass")
    marked_HW = mask_HW.copy()
    marked_HW[:, 48:] = IGNORED_CLASS
    black_HW = image_HW.copy()
    black_HW[:, 48:] = 0
    loss, _ = ignoring.gradient([collate([(image_HW, marked_HW)])])
    assert loss != pytest.approx(plain.gradient([collate([(image_HW, mask_HW)])])[0], rel=1e-6)
    assert loss != pytest.approx(ignoring.gradient([collate([(black_HW, marked_HW)])])[0], rel=1e-6)


def test_a_network_has_as_many_classes_as_its_masks() -> None:
    step = build_step(training_spec(classes=7), device=torch.device("cpu"))
    assert step.model(torch.zeros(1, 1, 64, 64)).shape[1] == 7
