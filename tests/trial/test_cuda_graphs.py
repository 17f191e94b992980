from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from record_factory import training_spec
from stand_in_graphs import make_graphed
from torch import Tensor

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate, device_tensors
from vnbench.trial.instruments.timing import WallTimer, make_timer
from vnbench.trial.step.cuda_graphs import GraphedPasses
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import set_switches

CANVASES = [(32, 96), (32, 64)]
CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"precision": "bf16", "norm_precision": "input", "checkpointing": "stages"},
    {"checkpointing": "selective", "padding": "exact", "optimizer": "foreach"},
]


def batch(index: int, canvas: tuple[int, int], *, count: int = 1) -> Batch:
    return collate(
        [
            draw_example(seed=0, index=index + i, height=canvas[0] - i, width=canvas[1] - i, task="multiclass")
            for i in range(count)
        ],
        canvas=canvas,
    )


def micro_batches() -> list[Batch]:
    """Two canvases in turn, two passes of each shape, and a shorter pass last."""
    large, small = CANVASES
    return [batch(0, large, count=2), batch(2, small, count=2), batch(4, large, count=2), batch(6, small)]


def trained(step: OptimizerStep) -> tuple[list[float], list[Tensor]]:
    """Return the losses of two steps, each of four passes, and the parameters after them."""
    timer = make_timer(step.device)
    losses = [float(step.run(iter(micro_batches()), num_examples=7, timer=timer).loss) for _ in range(2)]
    return losses, [parameter.detach().cpu() for parameter in step.model.parameters()]


def plain_and_replayed(device: str, **changes: Any) -> tuple[OptimizerStep, OptimizerStep]:
    set_switches(training_spec(device=device, **changes))
    plain, replayed = (build_step(training_spec(device=device, **changes), device=torch.device(device)) for _ in "ab")
    replayed.graph_passes(make_graphed=make_graphed if device == "cpu" else None)
    return plain, replayed


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=lambda changes: ", ".join(changes.values()) or "plain")
def test_replayed_steps_are_those_that_launch_their_kernels_one_by_one(changes: dict[str, Any]) -> None:
    plain, replayed = plain_and_replayed("cpu", **changes)
    losses, parameters = trained(plain)
    found_losses, found_parameters = trained(replayed)
    # A gradient is added to zero, which changes no bit of it.
    assert found_losses == losses
    assert all(map(torch.equal, found_parameters, parameters))


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [*CONFIGURATIONS, {"precision": "fp16"}, {"norm_kernel": "split"}])
def test_replays_on_a_gpu_are_close_to_kernels_launched_one_by_one(changes: dict[str, Any]) -> None:
    plain, replayed = plain_and_replayed("cuda", **changes)
    losses, gradients = plain.gradient(micro_batches())
    for _ in range(2):  # captured, then replayed
        found_losses, found_gradients = replayed.gradient(micro_batches())
        assert found_losses == pytest.approx(losses, rel=1e-4)
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        found = torch.cat([gradient.flatten() for gradient in found_gradients])
        assert (found - expected).norm() <= 1e-2 * expected.norm()


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=lambda changes: ", ".join(changes.values()) or "plain")
def test_torchs_own_function_captures_a_pass(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python runs, and nothing of CUDA: a replay does nothing, so it leaves what the capture did."""
    for name in ("CUDAGraph", "Stream", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    for name in ("graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.cuda.graphs, "graph_pool_handle", lambda: (0, 1))
    # What a capture takes for the gradient of the loss is what lies there; of one example it is 1.
    monkeypatch.setattr(torch, "empty_like", torch.ones_like)
    plain, replayed = plain_and_replayed("cpu", **changes)
    replayed.graph_passes(make_graphed=torch.cuda.graphs.make_graphed_callables)
    one = [batch(0, CANVASES[0])]
    loss, gradients = plain.gradient(one)
    for _ in range(2):
        found_loss, found_gradients = replayed.gradient(one)
        assert found_loss == loss
        assert all(map(torch.equal, found_gradients, gradients))


def test_the_gradient_of_replayed_passes_is_the_plain_one_each_time() -> None:
    plain, replayed = plain_and_replayed("cpu")
    _, expected = plain.gradient(micro_batches())
    for _ in range(2):
        _, found = replayed.gradient(micro_batches())
        assert all(map(torch.equal, found, expected))


def test_each_shape_is_captured_once_and_batches_stay_as_they_are() -> None:
    shapes: list[torch.Size] = []

    def counted(module: torch.nn.Module, inputs: tuple[Tensor, ...], *, pool: Any) -> torch.nn.Module:
        shapes.append(inputs[0].shape)
        return make_graphed(module, inputs, pool=pool)

    step = build_step(training_spec(), device=torch.device("cpu"))
    step.graph_passes(make_graphed=counted)
    batches = micro_batches()
    before = [[tensor.clone() for tensor in device_tensors(one)] for one in batches]
    for _ in range(2):
        step.run(iter(batches), num_examples=7, timer=WallTimer())
    assert [tuple(shape) for shape in shapes] == [(2, 1, 32, 96), (2, 1, 32, 64), (1, 1, 32, 64)]
    assert all(all(map(torch.equal, device_tensors(one), kept)) for one, kept in zip(batches, before, strict=True))


def test_visiting_a_shape_captures_it_and_leaves_no_gradient() -> None:
    _, step = plain_and_replayed("cpu")
    step.visit(batch(0, CANVASES[0]), timer=WallTimer())
    assert all(
        parameter.grad is not None and not parameter.grad.count_nonzero() for parameter in step.model.parameters()
    )


@pytest.mark.parametrize(
    ("failure", "at_the_end"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "capturing stream has unjoined work"),
        (RuntimeError("no number is read here"), "operation failed due to a previous error during capture"),
    ],
)
def test_what_failed_in_a_capture_is_told_and_not_that_its_end_failed_too(failure: Exception, at_the_end: str) -> None:
    def end_a_capture(*_: Any, **__: Any) -> Any:
        try:
            raise failure
        finally:
            raise RuntimeError(f"CUDA error: {at_the_end}")

    passes = GraphedPasses(lambda *_: torch.zeros(()), torch.nn.Linear(2, 2), make_graphed=end_a_capture)
    with pytest.raises(type(failure), match=str(failure)):
        passes(*device_tensors(batch(0, CANVASES[0])))


def test_torch_does_not_warn_that_gradients_are_added_on_the_stream_of_the_capture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tests on a GPU would end at it, as warnings are errors there."""
    told: list[bool] = []
    monkeypatch.setattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", told.append)
    GraphedPasses(lambda *_: torch.zeros(()), torch.nn.Linear(2, 2), make_graphed=make_graphed)
    assert told == [False]


def test_a_frozen_parameter_gets_no_gradient() -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    GraphedPasses(lambda *_: torch.zeros(()), model, make_graphed=make_graphed)
    assert model.weight.grad is not None
    assert model.bias.grad is None
