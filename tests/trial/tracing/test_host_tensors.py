"""Tensors on the host beside those on the card, in the trace of a user's own network."""

from __future__ import annotations

from pathlib import Path

import pytest
import record_factory as factory

from vnbench.errors import ModelError
from vnbench.records.step_trace import StepTrace, TraceOrder
from vnbench.request.own_model import read_own_model
from vnbench.trial.tracing.step_tracing import trace_step

NETWORK = """
import torch
from torch import nn

OUTSIDE = torch.ones(4)

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, num_classes, 3, padding=1)
        self.table = torch.ones(num_classes, 1, 1)
        self.tables = [torch.ones(num_classes, 1, 1)]
        self.by_name = {"table": torch.ones(num_classes, 1, 1)}
        self.loose = [nn.Parameter(torch.ones(num_classes, 1, 1))]
        self.rows = type("Rows", (), {})()
        self.rows.table = torch.ones(num_classes, 1, 1)
        self.place = torch.device("cpu")
        self.register_buffer("held", torch.ones(num_classes, 1, 1))
        self.embedding = nn.Embedding(4, 1)

    def forward(self, images):
        y = self.conv(images)
        {line}

def build(*, num_classes):
    return Net(num_classes)
"""


def traced(line: str, folder: Path, *, optimizer: str = "fused") -> StepTrace:
    path = folder / "network.py"
    path.write_text(NETWORK.replace("{line}", line))
    model = read_own_model(f"{path}:build", where="--model")
    training = factory.training_spec(
        device="cuda", precision="bf16", optimizer=optimizer, model=model.name, model_id=model.model_id
    )
    return trace_step(TraceOrder(spec=factory.memory_spec(training, height=64, width=96), capability=(9, 0)))


@pytest.mark.parametrize(
    ("line", "operator"),
    [
        ("return y + torch.zeros(y.shape[-1])", "aten.add.Tensor"),
        ("return y + torch.tensor([0.5])", "aten.add.Tensor"),
        ("return y.add_(torch.zeros(y.shape[-1]))", "aten.add_.Tensor"),
        ("return y + self.embedding(torch.arange(4)).sum()", "aten.embedding.default"),
        ("return y * self.table", "aten.mul.Tensor"),
        ("return y * self.tables[0]", "aten.mul.Tensor"),
        ('return y * self.by_name["table"]', "aten.mul.Tensor"),
        ("return y * self.loose[0]", "aten.mul.Tensor"),
        ("return y * self.rows.table", "aten.mul.Tensor"),
        ("return y * (self.tables[0] + self.table)", "aten.mul.Tensor"),
        ("return y * OUTSIDE[0:1]", "aten.mul.Tensor"),
        ("return y + y.cpu()", "aten.add.Tensor"),
        ('return y + torch.zeros(y.shape[-1], device="cpu")', "aten.add.Tensor"),
        ('return y + torch.zeros(y.shape[-1], device=torch.device("cpu"))', "aten.add.Tensor"),
        ("return y + torch.zeros(y.shape[-1], device=self.place)", "aten.add.Tensor"),
        ("return y + y.to(self.place)", "aten.add.Tensor"),
        ("return y + y.to(device=self.place)", "aten.add.Tensor"),
        ("with self.place: y = y + torch.zeros(y.shape[-1])\n        return y", "aten.add.Tensor"),
        ("return torch.cat([y, torch.zeros(y.shape)])", "aten.cat.default"),
        ("return torch.where(y > 0, y, torch.zeros(y.shape))", "aten.where.self"),
    ],
)
def test_a_tensor_of_the_host_is_refused_beside_those_of_the_card(line: str, operator: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        traced(line, tmp_path)
    told = f"network.py:23, in forward: {operator} takes a tensor of the host (the CPU) beside those of the card"
    assert told in str(caught.value)
    assert str(caught.value).endswith("; make it with device=images.device, or register it as a buffer")


@pytest.mark.parametrize(
    "line",
    [
        "return y + torch.zeros(y.shape[-1], device=y.device)",
        "return y * torch.tensor(2.0)",
        "return y * torch.ones(3).mean()",
        "return y * self.held",
        "return y + self.table.to(y.device)",
        "return y + OUTSIDE.to(y.device)[0]",
        "return y * self.tables[0].to(y.device)",
        "return y * self.loose[0].to(y)",
        "return y * y.mean().to(self.place)",
        'return y * torch.tensor(2.0, device="cpu")',
        "return y * (y.mean() + y.mean().cpu())",
        "with y.device: offsets = torch.zeros(y.shape[-1])\n        return y + offsets",
        "return y + y.new_zeros(y.shape[-1])",
        "return y[:, torch.arange(y.shape[1])]",
        "y = y.clone(); y[:, :, :2] = torch.zeros(y.shape[-1]); return y",
        "return y + y.cpu().cuda()",
        'return y + torch.zeros(y.shape[-1], device="cuda")',
        'return y + torch.zeros(y.shape[-1]).to("cuda:0")',
        "return y + torch.zeros_like(y)",
    ],
)
def test_what_cuda_takes_is_traced(line: str, tmp_path: Path) -> None:
    assert traced(line, tmp_path).sequence


@pytest.mark.parametrize(("device", "is_there"), [("", False), (", device=y.device", True)])
def test_what_is_made_on_the_host_takes_no_memory_of_the_card(device: str, is_there: bool, tmp_path: Path) -> None:
    trace = traced(f"made = torch.zeros(1000, 1000{device}); return y", tmp_path)
    assert (4_000_000 in trace.events.block_bytes) == is_there


@pytest.mark.parametrize("optimizer", ["foreach", "for-loop"])
def test_an_optimizer_keeps_its_number_of_steps_on_the_host(optimizer: str, tmp_path: Path) -> None:
    assert traced("return y * self.held", tmp_path, optimizer=optimizer).sequence
