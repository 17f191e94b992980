from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from record_factory import training_spec
from torch import Tensor, nn

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate
from vnbench.model.normalization import NormConfig
from vnbench.model.veernet import ConvNormReLU, EncoderStage
from vnbench.processes.parent import run_child
from vnbench.trial.instruments.timing import WallTimer
from vnbench.trial.step import compilation
from vnbench.trial.step.compilation import MAX_GRAPHS, compile_model
from vnbench.trial.step.optimizer_step import OptimizerStep, build_step
from vnbench.trial.step.switches import set_switches

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TIMEOUT_S = 1_800.0
CANVASES = [(1, 480, 704), (1, 512, 736), (1, 640, 960), (2, 480, 704), (3, 480, 736), (2, 512, 512)]
"""Examples, height and width. Below these sizes the CPU takes other kernels for small maps, and graphs with them."""


def batch_of(canvas: tuple[int, int, int]) -> Batch:
    num_examples, height, width = canvas
    examples = [
        draw_example(seed=0, index=index, height=height - 3, width=width - 5, task="multiclass")
        for index in range(num_examples)
    ]
    return collate(examples, canvas=(height, width))


def observed(step: OptimizerStep, canvas: tuple[int, int, int]) -> tuple[float, Tensor]:
    result = step.run(iter([batch_of(canvas)]), num_examples=canvas[0], timer=WallTimer())
    gradients = [parameter.grad for parameter in step.model.parameters() if parameter.grad is not None]
    return float(result.loss), torch.cat([gradient.flatten() for gradient in gradients]).double().cpu()


def frozen_step(device: str, **changes: Any) -> OptimizerStep:
    """Return a step whose weights stay, so that compiled and plain ones see the same on every canvas."""
    spec = training_spec(device=device, **changes)
    set_switches(spec)
    step = build_step(spec, device=torch.device(device))
    for group in step.optimizer.param_groups:
        group["lr"] = group["weight_decay"] = 0.0
    return step


def train_compiled(payload: str) -> str:
    """Run in a child: train on canvases, compiled and plain; return how far they are apart and what was compiled."""
    asked = json.loads(payload)
    changes: dict[str, Any] = asked["changes"]
    exact, plain = frozen_step(asked["device"]), frozen_step(asked["device"], **(changes | {"compile": "none"}))
    compiled = frozen_step(asked["device"], **({"compile": "default"} | changes))
    rows = []
    for canvas in map(tuple, asked["canvases"]):
        (_, exact_gradient), (plain_loss, plain_gradient), (loss, gradient) = (
            observed(step, canvas) for step in (exact, plain, compiled)
        )
        # Reduced precision scales its gradients; directions are compared.
        exact_gradient, plain_gradient, gradient = (
            one / one.norm() for one in (exact_gradient, plain_gradient, gradient)
        )
        rows.append(
            {
                "loss_error": abs(loss - plain_loss),
                "gradient_error": float((gradient - plain_gradient).norm()),
                "error": float((gradient - exact_gradient).norm()),
                "plain_error": float((plain_gradient - exact_gradient).norm()),
            }
        )
    return json.dumps(
        {
            "rows": rows,
            "num_graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
            "graph_breaks": sum(torch._dynamo.utils.counters["graph_break"].values()),
            "names": list(compiled.model.state_dict()) == list(plain.model.state_dict()),
            "cache": os.environ["TORCHINDUCTOR_CACHE_DIR"],
            "num_cached": len(os.listdir(os.environ["TORCHINDUCTOR_CACHE_DIR"])),
            "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8").split(),
        }
    )


def trained_compiled(device: str, canvases: list[tuple[int, int, int]], **changes: Any) -> dict[str, Any]:
    payload = json.dumps({"device": device, "canvases": canvases, "changes": changes})
    outcome = run_child("test_compilation:train_compiled", payload, timeout_s=TIMEOUT_S)
    assert outcome.answer is not None, outcome.log_tail
    answer: dict[str, Any] = json.loads(outcome.answer)
    assert outcome.exit_code == 0
    assert not Path(answer["cache"]).exists(), "the cache is removed when the process ends"
    assert answer["children"] == [], "nothing is compiled in other processes"
    assert answer["num_cached"] > 0
    return answer


@pytest.mark.compilation
@pytest.mark.parametrize("device", DEVICES)
def test_a_compiled_step_gives_the_plain_loss_and_gradient_and_few_graphs_serve_all_canvases(device: str) -> None:
    answer = trained_compiled(device, CANVASES)
    # Single examples, more of them, and squares: torch takes sizes for one symbol where they are equal at first.
    assert answer["num_graphs"] <= 3
    assert answer["graph_breaks"] == 0
    assert answer["names"], "state_dict has the names of the plain model"
    for row in answer["rows"]:
        assert row["loss_error"] <= 1e-5
        assert row["gradient_error"] <= 1e-3


@pytest.mark.compilation
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_compiled_checkpointed_step_in_reduced_precision_is_no_less_exact(device: str, precision: str) -> None:
    answer = trained_compiled(device, CANVASES[:3], precision=precision, checkpointing="stages")
    assert answer["num_graphs"] == 1
    for row in answer["rows"]:
        assert row["error"] <= 2 * row["plain_error"]


@pytest.mark.compilation
@pytest.mark.parametrize("device", DEVICES)
def test_channels_last_compiles_too(device: str) -> None:
    answer = trained_compiled(device, CANVASES[:2], memory_format="channels-last")
    assert answer["num_graphs"] == 1
    assert all(row["gradient_error"] <= 1e-3 for row in answer["rows"])


@pytest.mark.compilation
@pytest.mark.parametrize("device", DEVICES)
def test_exact_padding_compiles_too(device: str) -> None:
    answer = trained_compiled(device, CANVASES[:2], padding="exact")
    assert answer["num_graphs"] == 1
    assert all(row["gradient_error"] <= 1e-3 for row in answer["rows"])


@pytest.mark.compilation
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16", "checkpointing": "stages"}, {"padding": "exact"}])
def test_a_pass_compiled_with_its_loss_gives_the_plain_loss_and_gradient(device: str, changes: dict[str, str]) -> None:
    answer = trained_compiled(device, CANVASES[:3], compile="step", **changes)
    assert answer["num_graphs"] == 1
    assert answer["graph_breaks"] == 0
    for row in answer["rows"]:
        if "precision" in changes:
            assert row["error"] <= 2 * row["plain_error"]
        else:
            assert row["loss_error"] <= 1e-5
            assert row["gradient_error"] <= 1e-3


def trace_passes(payload: str) -> str:
    """Run in a child: a pass with its loss, captured by the compiler and run operation by operation, and plain."""
    compilation.HOW = {"fullgraph": True, "dynamic": True, "backend": "aot_eager"}
    steps = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        norm = NormConfig(groups="half-or-16", precision="fp32")
        network = nn.Sequential(ConvNormReLU(1, 4, norm=norm), nn.Conv2d(4, 3, kernel_size=1))
        steps.append(OptimizerStep(network, precision="bf16", device=torch.device("cpu")))
        if is_compiled:
            steps[-1].compile_passes()
    rows = []
    for canvas in ((2, 64, 160), (3, 96, 128)):
        (plain_loss, plain), (loss, found) = (step.gradient([batch_of(canvas), batch_of(canvas)]) for step in steps)
        errors = [float((a - b).norm() / a.norm()) for a, b in zip(plain, found, strict=True)]
        rows.append([abs(loss - plain_loss), *errors])
    counters = torch._dynamo.utils.counters
    return json.dumps([rows, counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())])


def test_a_pass_with_its_loss_is_captured_as_one_graph_and_gives_the_plain_gradient() -> None:
    outcome = run_child("test_compilation:trace_passes", "", timeout_s=TIMEOUT_S)
    assert outcome.answer is not None, outcome.log_tail
    rows, num_graphs, num_breaks = json.loads(outcome.answer)
    assert (num_graphs, num_breaks) == (1, 0)
    assert all(max(row) <= 1e-6 for row in rows), rows


class Stages(nn.Module):
    """The start of the network: few kernels, and all kinds of them but attention."""

    def __init__(self) -> None:
        super().__init__()
        norm = NormConfig(groups="half-or-16", precision="fp32")
        self.stem = ConvNormReLU(1, 4, norm=norm)
        self.stage = EncoderStage(4, 8, norm=norm)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.stage(self.stem(x_BCHW))
        return y_BCHW


def compile_stages(payload: str) -> str:
    """Run in a child: compile two stages and train them on maps of many sizes; return the number of graphs."""
    model = Stages()
    compile_model(model, device=torch.device("cpu"))
    for height, width in ((256, 320), (288, 352), (320, 256), (352, 288), (384, 512)):
        model(torch.rand(2, 1, height, width)).square().mean().backward()
    return str(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.compilation
def test_one_graph_serves_maps_of_many_sizes() -> None:
    outcome = run_child("test_compilation:compile_stages", "", timeout_s=TIMEOUT_S)
    assert outcome.answer == b"1", outcome.log_tail


class Named(nn.Module):
    """Needs another graph for each name, because a graph holds only for the strings that it was made with."""

    name = ""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * len(self.name + "!")


def exceed_the_limit_of_graphs(payload: str) -> str:
    """Run in a child: return how a model ends that needs a graph for each call."""
    model = Named()
    compile_model(model, device=torch.device("cpu"))
    try:
        for index in range(MAX_GRAPHS + 1):
            model.name = str(index)
            model(torch.rand(1, 1, 4, 4))
    except Exception as error:
        return type(error).__name__
    return "ran on"


@pytest.mark.compilation
def test_past_the_limit_of_graphs_the_trial_fails_and_does_not_run_uncompiled() -> None:
    outcome = run_child("test_compilation:exceed_the_limit_of_graphs", "", timeout_s=TIMEOUT_S)
    assert outcome.answer == b"FailOnRecompileLimitHit", outcome.log_tail


def compile_without_a_compiler(payload: str) -> str:
    """Run in a child: the message where there is no C++ compiler."""
    os.environ["PATH"] = payload
    os.environ.pop("CXX", None)
    try:
        compile_model(Stages(), device=torch.device("cpu"))
    except RuntimeError as error:
        return str(error)
    return "compiled"


def test_a_missing_compiler_is_named_with_its_remedy(tmp_path: Path) -> None:
    outcome = run_child("test_compilation:compile_without_a_compiler", str(tmp_path), timeout_s=TIMEOUT_S)
    assert outcome.answer is not None, outcome.log_tail
    assert b"install g++ or name one in CXX, or write --compile none" in outcome.answer


def test_a_temporary_folder_that_runs_no_programs_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs("/tmp")
    status = os.statvfs_result((*tuple(real)[:8], real.f_flag | os.ST_NOEXEC, real.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    with pytest.raises(RuntimeError, match="is mounted noexec: name another in TMPDIR, or write --compile none"):
        compile_model(Stages(), device=torch.device("cpu"))
