from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cuda_autocast import CudaAutocast
from record_factory import memory_spec, record_of, training_spec

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.errors import ModelError
from vnbench.records.readings import MemoryReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask
from vnbench.request.config import complete
from vnbench.request.own_model import read_own_model
from vnbench.request.reading import read_request
from vnbench.sweep.design import make_design
from vnbench.sweep.runner import run_traces, run_trial
from vnbench.trial.kinds.memory import measure_memory
from vnbench.trial.kinds.traced_memory import traced_memory
from vnbench.units import PixelRange

ENVIRONMENT = {"device_name": "here", "device_uuid": None}
OWN = Path(__file__).parents[2] / "benchmarks/own_network.py"

LEVERS: Mapping[str, dict[str, Any]] = {
    "fp32": {},
    "bf16, norm input": {"precision": "bf16", "norm_precision": "input"},
    "fp16, foreach": {"precision": "fp16", "optimizer": "foreach"},
    "fp16, for-loop, norm input": {"precision": "fp16", "optimizer": "for-loop", "norm_precision": "input"},
    "checkpointing, bf16, norm input": {"checkpointing": "stages", "precision": "bf16", "norm_precision": "input"},
    "selective checkpointing": {"checkpointing": "selective"},
    "selective checkpointing, bf16": {"checkpointing": "selective", "precision": "bf16"},
    "norm groups": {"norm_groups": "16"},
    "channels-last, bf16, checkpointing": {
        "memory_format": "channels-last",
        "precision": "bf16",
        "checkpointing": "stages",
    },
    "exact padding, bf16, channels-last, two examples": {
        "padding": "exact",
        "precision": "bf16",
        "memory_format": "channels-last",
        "batch_size": 2,
    },
    "split norm, bf16": {"norm_kernel": "split", "precision": "bf16"},
    "split norm, fp16, norm input, checkpointing": {
        "norm_kernel": "split",
        "precision": "fp16",
        "norm_precision": "input",
        "checkpointing": "stages",
    },
    "split norm, exact padding, bf16": {"norm_kernel": "split", "padding": "exact", "precision": "bf16"},
    "binary": {"task": "binary"},
    "the full preset": {"model": "veernet", "precision": "bf16"},
}


def spec_of(*, height: int = 96, width: int = 160, **changes: Any) -> TrialSpec:
    training = training_spec(**changes)
    spec = memory_spec(training, height=height, width=width)
    return dataclasses.replace(spec, norm_groups=training.norm_groups, memory_by="trace")


def own_spec(path: Path = OWN, **changes: Any) -> TrialSpec:
    own = read_own_model(f"{path}:build", where="--model")
    return spec_of(model=own.name, model_id=own.model_id, **changes)


def task_of(spec: TrialSpec) -> TrialTask:
    return TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)


def measured(spec: TrialSpec) -> MemoryReading:
    """Return what the tracker reads in the real step of a traced spec."""
    real = dataclasses.replace(spec, memory_by="step")
    *_, record = measure_memory(task_of(real), record_of(real))
    assert record.memory is not None
    return record.memory


def traces(*specs: TrialSpec) -> tuple[TrialRecord, ...]:
    return run_traces([task_of(spec) for spec in specs], environment=ENVIRONMENT, timeout_s=600)


def assert_same_peak(spec: TrialSpec) -> None:
    traced, real = traced_memory(spec), measured(spec)
    assert real.peak_allocated_bytes is not None
    assert traced.peak_allocated_bytes == pytest.approx(real.peak_allocated_bytes, rel=0.001)
    assert traced.num_operators == real.num_operators
    assert traced.soak_peak_allocated_bytes == real.soak_peak_allocated_bytes
    assert (traced.instrument, traced.process_peak_rss_bytes) == ("traced-tensors", None)
    assert traced.capacity_bytes == real.capacity_bytes


@pytest.mark.parametrize("levers", LEVERS.values(), ids=LEVERS)
def test_a_trace_has_the_peak_and_the_operators_of_the_real_step(levers: dict[str, Any]) -> None:
    assert_same_peak(spec_of(**levers))


@pytest.mark.parametrize(
    "levers",
    [{}, {"precision": "bf16", "checkpointing": "stages"}, {"precision": "bf16", "memory_format": "channels-last"}],
    ids=["fp32", "bf16, checkpointing", "bf16, channels-last"],
)
def test_a_trace_of_a_network_of_ones_own_has_the_peak_of_the_real_step(levers: dict[str, Any]) -> None:
    assert_same_peak(own_spec(**levers))


@pytest.mark.parametrize("checkpointing", ["none", "stages"])
def test_a_trace_under_the_rules_of_cuda_has_the_same_peak(checkpointing: str) -> None:
    spec = spec_of(precision="bf16", norm_precision="input", checkpointing=checkpointing)
    with CudaAutocast():
        on_cuda = traced_memory(spec)
    assert on_cuda == traced_memory(spec)


@pytest.mark.parametrize(("levers", "most"), [({}, 0.8), ({"precision": "bf16"}, 0.65)], ids=["fp32", "bf16"])
def test_selective_checkpointing_lies_between_none_and_stages(levers: dict[str, Any], most: float) -> None:
    none, selective, stages = (
        traced_memory(
            spec_of(model="veernet", height=160, width=1600, checkpointing=checkpointing, **levers)
        ).peak_allocated_bytes
        for checkpointing in ("none", "selective", "stages")
    )
    assert none is not None
    assert selective is not None
    assert stages is not None
    assert stages < selective < most * none


def test_a_soak_is_traced_as_it_is_run() -> None:
    passes = ((1, 64, 96), (2, 64, 224), (1, 96, 96))
    spec = dataclasses.replace(spec_of(batch_size=2), sampler="bucketed", soak="sampler-order", soak_passes=passes)
    assert_same_peak(spec)


def test_sides_that_are_not_aligned_are_traced_on_their_canvas() -> None:
    assert_same_peak(spec_of(height=70, width=130))


def test_traces_come_back_in_the_order_of_their_tasks_and_do_not_depend_on_it() -> None:
    one, two = spec_of(), spec_of(batch_size=2)
    records = traces(one, two, one)
    assert [record.spec for record in records] == [one, two, one]
    assert [record.status for record in records] == ["ok"] * 3
    first, second, again = (record.memory for record in records)
    assert first == again == traced_memory(one)
    assert second == traced_memory(two)


def test_the_record_of_a_trace_is_complete() -> None:
    (record,) = traces(spec_of())
    assert record.kind == "memory"
    assert record.environment["torch_version"]
    assert record.started_at
    assert record.elapsed_s > 0
    assert record.cause is None
    assert record.warnings == ()
    assert TrialRecord.from_json(record.to_json()) == record


def test_one_trace_is_a_trial_like_any_other() -> None:
    spec = spec_of()
    record = run_trial(task_of(spec), environment=ENVIRONMENT, timeout_s=600)
    assert record.status == "ok", record.cause
    assert record.memory == traced_memory(spec)


def test_a_trace_takes_none_of_the_memory_that_it_tells_of() -> None:
    (record,) = traces(spec_of(model="veernet", batch_size=16, height=640, width=12_800))
    assert record.memory is not None
    assert record.memory.peak_allocated_bytes is not None
    assert record.memory.peak_allocated_bytes > 90 * 2**30
    assert record.large_tensors is not None
    assert record.large_tensors.num_elements > 2**31
    assert record.equality is record.large_tensors.is_equal is None
    assert record.warnings == (), "a peak is no figure that zeros could spoil"


def test_a_peak_above_the_memory_limit_is_out_of_memory_and_is_kept() -> None:
    peak_bytes = traced_memory(spec_of()).peak_allocated_bytes
    assert peak_bytes is not None
    specs = [dataclasses.replace(spec_of(), memory_limit_bytes=limit) for limit in (peak_bytes - 1, peak_bytes)]
    tight, enough = traces(*specs)
    assert tight.cause is not None
    assert (tight.status, tight.cause.kind, enough.status) == ("oom", "traced-peak", "ok")
    for record in (tight, enough):
        assert record.memory is not None
        assert record.memory.peak_allocated_bytes == peak_bytes
        assert record.memory.capacity_bytes == record.spec.memory_limit_bytes


def test_a_peak_above_the_memory_of_the_machine_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from vnbench.trial.kinds.traced_memory import trace_memory

    monkeypatch.setattr("vnbench.trial.instruments.memory.host_memory_bytes", lambda: 1000)
    spec = spec_of()
    *_, record = trace_memory(task_of(spec), record_of(spec))
    assert record.status == "oom"
    assert record.cause is not None
    assert record.cause.message.endswith("of tensors at its peak, but only 1000 B are available")


UNTRACEABLE = {
    "reads a number": "x = self.conv(x); return x if x.mean().item() < 1e9 else -x",
    "branches on a number": "x = self.conv(x); return x if x.mean() < 1e9 else -x",
    "holds tensors elsewhere": "return self.conv(x) * SCALE",
    "keeps a workspace": "return self.conv(x + self.rows(x[:, 0, :, :1])[0][:, None])",
    "leaves torch": "return self.conv(x) + float(x.detach().numpy().mean())",
}


@pytest.mark.parametrize("forward", UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_a_network_that_cannot_be_traced_is_told_and_keeps_no_other_from_it(forward: str, tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text(
        "import torch\nfrom torch import nn\nSCALE = torch.ones(1)\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(1, num_classes, 1)\n"
        "        self.rows = nn.LSTM(1, 1, batch_first=True)\n"
        f"    def forward(self, x):\n        {forward}\n"
        "def build(*, num_classes): return Net(num_classes)\n"
    )
    spec = own_spec(path)
    failed, other = traces(spec, spec_of())
    assert other.status == "ok"
    assert failed.cause is not None
    assert (failed.status, failed.cause.kind) == ("crashed", "exception")
    assert "cannot be traced on fake tensors" in failed.cause.message
    assert "write --memory-by step, which runs the step" in failed.cause.message
    assert measured(spec).peak_allocated_bytes, "the step itself runs"


def test_what_a_network_keeps_beside_its_parameters_is_traced_too(tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.shared = nn.Conv2d(4, 4, 3, padding=1)\n"
        "        self.parts = nn.Sequential(nn.Conv2d(1, 4, 1), self.shared, nn.Dropout(0.5), self.shared)\n"
        "        self.scale = torch.full((4, 1, 1), 0.5)\n"
        "        self.register_buffer('offset', torch.randn(4, 1, 1))\n"
        "        self.rows = nn.GRU(4, 4, batch_first=True)\n"
        "        self.head = nn.Conv2d(4, num_classes, 1)\n"
        "    def forward(self, x):\n"
        "        x = self.parts(x) * self.scale + self.offset\n"
        "        rows, _ = self.rows(x.mean(3).transpose(1, 2))\n"
        "        return self.head(x + rows.transpose(1, 2)[..., None])\n"
        "def build(*, num_classes): return Net(num_classes)\n"
    )
    assert_same_peak(own_spec(path))


def test_a_network_that_is_no_longer_the_planned_one_is_told_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text(OWN.read_text())
    spec = own_spec(path)
    path.write_text(OWN.read_text() + "\n")
    with pytest.raises(ModelError, match="changed since the trial was planned"):
        traced_memory(spec)


def test_every_family_of_the_cpus_default_sweep_is_traced_in_one_process() -> None:
    request = read_request({"widths": "3200:12800", "memory-by": "trace"}, config_path=None)
    config = complete(request, environment={"device_type": "cpu", "num_cpus": 2})
    logs = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
    made = make_design(
        config,
        corpus_id="0" * 12,
        train_sizes_N2=draw_sizes(logs, 48, seed=0),
        worst_case=(640, 12_800),
        canvas_sizes=(),
    )
    specs = [trial.spec for trial in made.trials if trial.spec.kind == "memory"]
    assert len(specs) >= 5
    limitless = [dataclasses.replace(spec, memory_limit_bytes=None) for spec in specs]
    records = traces(*limitless)
    assert {record.status for record in records} <= {"ok", "oom"}
    peaks = {record.spec.family: record.memory.peak_allocated_bytes for record in records if record.memory}
    assert len(peaks) == len(specs)
    assert all(peak is not None and peak > 2**30 for peak in peaks.values())
