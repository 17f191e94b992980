from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
import torch

from vnbench.errors import ModelError
from vnbench.loading.collate import Batch, blank_batch
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.step_trace import StepTrace, TraceOrder
from vnbench.request.own_model import read_own_model
from vnbench.trial.instruments.memory import LiveTensorTracker
from vnbench.trial.measuring.worst_case import train
from vnbench.trial.step.optimizer_step import build_step
from vnbench.trial.tracing.recorder import Recorder
from vnbench.trial.tracing.step_tracing import trace_step, traced_steps

HOPPER = (9, 0)
GIB = 2**30
BATCH_BYTES = 2 * 64 * 96 + 2 * 4
"""Image and mask in bytes, and two numbers of 32 bits."""

LARGE = {"height": 160, "width": 640}
"""A canvas on which the peak is of activations."""

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


GIB_OF_THE_WORST_CASE = {
    "fp32": ({}, 10.84),
    "bf16": ({"precision": "bf16"}, 11.08),
    "bf16, norm in bf16": ({"precision": "bf16", "norm_precision": "input"}, 5.50),
    "the same, stages": ({"precision": "bf16", "norm_precision": "input", "checkpointing": "stages"}, 3.01),
}
"""Those of one image of 640 x 12,800 px. A separate prototype came to 10.95, 11.15, 5.58 and 3.08 with the logits kept
in the backward pass, of which there are 0.09 GiB in fp32 and 0.05 in bf16, and 0.02 of batch and gradients."""


@pytest.mark.parametrize(("levers", "gib"), GIB_OF_THE_WORST_CASE.values(), ids=GIB_OF_THE_WORST_CASE)
def test_the_worst_case_has_the_peak_that_was_found_before(levers: dict[str, Any], gib: float) -> None:
    trace = traced(model="veernet", height=640, width=12_800, **levers)
    assert trace.peak_bytes(block=512)[2] / GIB == pytest.approx(gib, rel=0.002)


def test_the_second_step_has_the_state_of_the_optimizer() -> None:
    trace = traced(**LARGE)
    peaks = trace.peak_bytes()
    assert peaks[0] == trace.parameter_bytes == 4 * trace.num_parameters
    assert peaks[2] - peaks[1] == pytest.approx(2 * trace.parameter_bytes, rel=0.01)
    assert traced().batch_bytes == BATCH_BYTES


def test_the_optimizer_counts_on_the_host_unless_it_is_fused() -> None:
    # Allocations of four bytes: losses, counts and scalars of the card.
    fused, foreach = (
        sum(size == 4 for size in traced(optimizer=loop).events.block_bytes) for loop in ("fused", "foreach")
    )
    num_tensors = 62
    assert fused - foreach >= num_tensors


def test_all_that_is_freed_was_allocated_and_marks_come_in_pairs() -> None:
    trace = traced(precision="fp16", checkpointing="stages")
    live, running, ended = set(), None, -1
    for kind, number in trace.events:
        if kind == "a":
            assert number not in live
            live.add(number)
        elif kind == "f":
            live.remove(number)
        elif kind == "(":
            assert (running, number) == (None, ended + 1)
            running = number
        elif kind == ")":
            assert running == number
            running, ended = None, number
    assert ended == len(trace.sequence) - 1
    assert min(trace.events.block_bytes) > 0
    assert trace.events.kinds.count("s") == 2


def test_a_second_pass_finds_gradients() -> None:
    once, twice = traced(**LARGE), traced(**LARGE, passes=3)
    assert (once.num_passes, twice.num_passes) == (1, 2)
    assert twice.notes == ("of 3 passes the first 2 are traced, the others are as the last",)
    assert [twice.events.kinds.count(kind) for kind in "sp"] == [2, 4]
    assert twice.peak_bytes()[2] - once.peak_bytes()[2] == pytest.approx(once.parameter_bytes, rel=0.1)


def test_a_batch_is_copied_from_the_host_and_freed_before_the_forward_pass() -> None:
    trace = traced()
    ran = [trace.operators[place] for place in trace.sequence]
    copied = [
        one for one in ran if one.phase == "batch" and one.bytes_read == 0 and one.name == "aten._to_copy.default"
    ]
    assert sum(one.bytes_written for one in copied) == 2 * trace.batch_bytes  # of two steps
    first_forward = next(place for place, one in enumerate(ran) if one.name == "aten.convolution.default")
    place_of_mark = trace.events.kinds.index("(")
    sizes, live = trace.events.block_bytes, []
    for kind, number in trace.events:
        if (kind, number) == ("(", first_forward):
            break
        if kind in "af":
            (live.append if kind == "a" else live.remove)(number)
    assert place_of_mark > 0
    assert 64 * 96 in sizes  # a byte per pixel, once copied
    assert [sizes[block] for block in live].count(64 * 96) == 1  # the mask of valid pixels


def test_compiled_and_captured_passes_are_traced_as_eager_and_that_is_told() -> None:
    eager, compiled, captured = traced(), traced(compile="default"), traced(cuda_graphs="on")
    assert eager.notes == ()
    assert "compiled code is traced as eager" in compiled.notes[0]
    assert "captured passes are traced as eager" in captured.notes[0]
    assert eager.events == compiled.events == captured.events


def test_groupnorm_tells_its_blocks_and_convolutions_their_shapes() -> None:
    trace = traced(model="veernet", batch_size=2, precision="bf16")
    stem = next(one for one in trace.operators if one.convolution is not None)
    assert stem.dtype == "bfloat16"
    assert stem.flops == 2 * 2 * 64 * 96 * 16 * 9
    convolution = stem.convolution
    assert convolution is not None
    assert (convolution.in_channels, convolution.out_channels, convolution.kernel_size) == (1, 16, (3, 3))
    assert (convolution.input_bytes, convolution.output_bytes) == (2 * 2 * 64 * 96, 16 * 2 * 2 * 64 * 96)
    blocks = {(one.name, one.num_blocks) for one in trace.operators if one.num_blocks is not None}
    assert ("aten.native_group_norm.default", 2) in blocks  # two examples of one group
    assert ("aten.native_group_norm_backward.default", 2 * 16) in blocks  # of 16 channels
    assert any(one.is_gemm and one.phase == "backward" for one in trace.operators)


def test_channels_last_maps_are_copied_for_groupnorm_and_back_for_the_next_convolution() -> None:
    names = [[trace.operators[place].name for place in trace.sequence] for trace in _layouts()]
    copies = [sum(name == "aten.clone.default" for name in one) for one in names]
    assert copies[1] > copies[0]
    contiguous, channels_last = _layouts()
    assert not any(one.convolution.is_channels_last for one in contiguous.operators if one.convolution)
    assert all(one.convolution.is_channels_last for one in channels_last.operators if one.convolution)
    # A convolution takes room for its input in its own layout, before its result.
    place = next(
        place
        for place, row in enumerate(channels_last.sequence)
        if (found := channels_last.operators[row].convolution) and found.in_channels == 16
    )
    inside = channels_last.events.kinds.index("(")
    taken = _blocks_within(channels_last, place)
    row = channels_last.operators[channels_last.sequence[place]].convolution
    assert row is not None
    assert taken == [row.input_bytes, row.output_bytes]
    assert inside >= 0


def _layouts() -> tuple[StepTrace, StepTrace]:
    contiguous, channels_last = (traced(model="veernet", memory_format=one) for one in ("contiguous", "channels-last"))
    return contiguous, channels_last


def _blocks_within(trace: StepTrace, place: int) -> list[int]:
    events = list(trace.events)
    begin, end = events.index(("(", place)), events.index((")", place))
    return [trace.events.block_bytes[number] for kind, number in events[begin:end] if kind == "a"]


DIGEST = """
import hashlib, sys
from vnbench.records.step_trace import TraceOrder
from vnbench.trial.tracing.recorder import Recorder
from vnbench.trial.tracing.step_tracing import trace_step

print(hashlib.sha256(trace_step(TraceOrder.from_json(sys.argv[1])).to_json().encode()).hexdigest())
"""


@pytest.mark.processes
def test_two_processes_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    order = TraceOrder(spec=spec_of(precision="bf16", checkpointing="selective"), capability=HOPPER)
    digests = set()
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, order.to_json()], capture_output=True, text=True, check=True, timeout=300
        )
        digests.add(done.stdout)
    assert len(digests) == 1
    here = hashlib.sha256(trace_step(order).to_json().encode()).hexdigest()
    assert digests == {f"{here}\n"}


READS = """
class Reads(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, num_classes, 3, padding=1)

    def forward(self, images):
        logits = self.conv(images)
        return logits * 2 if logits.max() > 0 else logits

def reads(*, num_classes):
    return Reads(num_classes)
"""

RECURRENT = """
class Recurrent(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.rows = nn.LSTM(1, num_classes, batch_first=True)

    def forward(self, images):
        count, _, height, width = images.shape
        out, _ = self.rows(images.reshape(count, height * width, 1))
        return out.transpose(1, 2).reshape(count, -1, height, width)

def recurrent(*, num_classes):
    return Recurrent(num_classes)
"""


@pytest.mark.parametrize(
    ("function", "source", "told"),
    [
        ("reads", READS, "network.py:12, in forward: it reads values (aten._local_scalar_dense.default)"),
        ("recurrent", RECURRENT, "network.py:12, in forward: aten.lstm.input runs in cuDNN on CUDA"),
    ],
)
def test_a_network_that_cannot_be_traced_is_refused_with_the_operator_and_what_to_do(
    function: str, source: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="cannot be traced on fake tensors") as caught:
        traced(**own(function, tmp_path, source))
    assert str(caught.value).startswith(f"--model {tmp_path}/network.py:{function}: {told}")
    assert str(caught.value).endswith("; leave it out of the forecast, or measure it on a card")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("return logits.missing", "in forward: AttributeError: 'FakeTensor' object has no attribute 'missing'"),
        ("return logits.view(-1, 7, 11)", "in forward: RuntimeError: shape '[-1, 7, 11]' is invalid"),
        ("raise NotImplementedError('later')", "in forward: NotImplementedError: later"),
        ("raise SystemExit(7)", "in forward: it ends the process (SystemExit: 7)"),
    ],
)
def test_an_error_of_a_network_is_told_with_its_line(line: str, told: str, tmp_path: Path) -> None:
    source = READS.replace("return logits * 2 if logits.max() > 0 else logits", line)
    with pytest.raises(ModelError) as caught:
        traced(**own("reads", tmp_path, source))
    assert str(caught.value).startswith(f"--model {tmp_path}/network.py:reads: network.py:12, {told}")
    assert str(caught.value).endswith("; repair the network")


def test_an_error_in_a_network_s_constructor_is_told_with_its_line(tmp_path: Path) -> None:
    source = READS.replace("self.conv = nn.Conv2d(1, num_classes, 3, padding=1)", "raise OSError('no weights')")
    with pytest.raises(ModelError, match=r"network\.py:8, in __init__: OSError: no weights; repair the network"):
        traced(**own("reads", tmp_path, source))


def test_a_trace_travels_as_text() -> None:
    trace = traced()
    assert StepTrace.from_json(trace.to_json()) == trace


@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_each_gradient_of_a_convolution_takes_as_many_operations_as_the_convolution(
    groups: int, is_transposed: bool
) -> None:
    kind = torch.nn.ConvTranspose2d if is_transposed else torch.nn.Conv2d
    network = kind(8, 16, 3, stride=2, padding=1, groups=groups, bias=False)
    recorder = Recorder(is_on_card=lambda tensor: True, has_host_numbers=False)
    x = torch.randn(2, 8, 10, 14, requires_grad=True)
    recorder.track([x, *network.parameters()])
    with recorder:
        recorder.begin_step()
        network(x).sum().backward()
    recorder.close()
    flops = {one.name: one.flops for one in recorder.operators if one.convolution is not None}
    forward = flops["aten.convolution.default"]
    assert forward > 0
    assert flops["aten.convolution_backward.default"] == 2 * forward
