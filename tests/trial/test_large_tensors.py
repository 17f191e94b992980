from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
import torch
import torch.nn.functional as F
from torch import Tensor

from vnbench.model import veernet
from vnbench.records.failures import classify
from vnbench.records.readings import LargeTensorReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import Compile
from vnbench.records.task import TrialTask
from vnbench.request.own_model import read_own_model
from vnbench.trial.checks import large_tensors
from vnbench.trial.checks.equality import check_equality
from vnbench.trial.checks.large_tensors import (
    INDEX_LIMIT,
    checked_large_tensors,
    compare_with_parts,
    find_large_tensors,
    largest_tensor,
)
from vnbench.trial.entry import run
from vnbench.trial.step.optimizer_step import OptimizerStep
from vnbench.trial.step.switches import set_arithmetic

OWN_NETWORK = Path(__file__).parents[2] / "benchmarks" / "own_network.py"
"""A network with BatchNorm."""

HEIGHT, WIDTH = 96, 160
NUM_EXAMPLES = 4
CONCATENATED = 12
"""Channels of veernet-tiny's largest map: 8 from below and 4 that were skipped, at full resolution."""
LIMIT = 3 * CONCATENATED * HEIGHT * WIDTH
"""So many elements as three of the examples have: the last one of four lies beyond."""


@pytest.fixture(autouse=True)
def _arithmetic() -> Iterator[None]:
    yield
    set_arithmetic("fp32")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tensors, "INDEX_LIMIT", LIMIT)


def spec_of(**changes: Any) -> TrialSpec:
    return factory.training_spec(batch_size=NUM_EXAMPLES, **changes)


def compared(spec: TrialSpec) -> LargeTensorReading:
    found = find_large_tensors(spec, num_examples=NUM_EXAMPLES, height=HEIGHT, width=WIDTH)
    assert found is not None
    return compare_with_parts(spec, found, equality=check_equality(spec))


class ZeroedBeyond(torch.autograd.Function):
    """What a kernel leaves that counts elements in too few bits: nothing, from some element on in memory."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, is_output: bool, is_gradient: bool) -> Tensor:
        ctx.is_gradient = is_gradient
        return zeroed(values) if is_output else values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return (zeroed(gradient) if ctx.is_gradient else gradient), None, None


def zeroed(values_BCHW: Tensor) -> Tensor:
    is_channels_last = not values_BCHW.is_contiguous()
    ordered = (values_BCHW.permute(0, 2, 3, 1) if is_channels_last else values_BCHW).clone(
        memory_format=torch.contiguous_format
    )
    # The upsampled map has 8 of the 12 channels that the limit was set for.
    ordered.view(-1)[LIMIT * 8 // CONCATENATED :] = 0
    return ordered.permute(0, 3, 1, 2) if is_channels_last else ordered


def faulty(monkeypatch: pytest.MonkeyPatch, *, is_output: bool, is_gradient: bool) -> None:
    interpolate: Callable[..., Tensor] = F.interpolate

    def upsample(x_BCHW: Tensor, **options: Any) -> Tensor:
        result: Tensor = ZeroedBeyond.apply(interpolate(x_BCHW, **options), is_output, is_gradient)  # type: ignore[no-untyped-call]
        return result

    monkeypatch.setattr(veernet.F, "interpolate", upsample)


def test_the_largest_tensor_of_the_published_worst_case_is_the_concatenated_map() -> None:
    spec = factory.training_spec(model="veernet")
    # 32 channels from below and 16 that were skipped, at full resolution.
    assert largest_tensor(spec, num_examples=16, height=640, width=12_800) == 16 * 48 * 640 * 12_800
    assert largest_tensor(replace(spec, padding="exact"), num_examples=1, height=481, width=3_201) == 48 * 512 * 3_232


@pytest.mark.parametrize(("num_examples", "is_large"), [(1, False), (5, False), (6, True), (16, True)])
def test_worst_cases_of_six_images_cross_the_limit(num_examples: int, is_large: bool) -> None:
    spec = factory.training_spec(model="veernet")
    found = find_large_tensors(spec, num_examples=num_examples, height=640, width=12_800)
    assert (found is not None) == is_large
    if found is not None:
        assert found.num_elements == num_examples * 48 * 640 * 12_800 >= INDEX_LIMIT
        assert found.is_equal is None


def test_nothing_is_drawn_from_torchs_generator_to_find_the_largest_tensor() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    largest_tensor(spec_of(), num_examples=2, height=64, width=64)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("precision", "norm_precision"), [("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "input")])
@pytest.mark.parametrize(
    "levers", [{}, {"checkpointing": "stages"}, {"memory_format": "channels-last"}, {"padding": "exact"}]
)
def test_a_right_pass_is_what_its_halves_are(precision: str, norm_precision: str, levers: dict[str, Any]) -> None:
    reading = compared(spec_of(precision=precision, norm_precision=norm_precision, **levers))
    assert reading.is_equal is True, reading
    assert reading.num_parts == 2
    assert reading.gradient_error is not None
    assert reading.gradient_error > 0


@pytest.mark.usefixtures("limit")
def test_a_pass_is_divided_until_each_part_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tensors, "INDEX_LIMIT", CONCATENATED * HEIGHT * WIDTH)
    assert compared(spec_of()).num_parts == NUM_EXAMPLES


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("memory_format", ["contiguous", "channels-last"])
@pytest.mark.parametrize(("is_output", "is_gradient"), [(True, False), (False, True)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_zeros_beyond_the_limit_are_found(
    monkeypatch: pytest.MonkeyPatch, memory_format: str, is_output: bool, is_gradient: bool, precision: str
) -> None:
    faulty(monkeypatch, is_output=is_output, is_gradient=is_gradient)
    reading = compared(spec_of(precision=precision, memory_format=memory_format))
    assert reading.is_equal is False, reading
    assert reading.tolerance is not None
    if is_gradient:
        # The logits are right, and it is the image of the last example that gets no gradient.
        assert reading.logits_error is not None
        assert reading.logits_error < reading.tolerance
        assert reading.image_gradient_error == pytest.approx(1.0, abs=0.9)
        assert reading.image_gradient_error > reading.tolerance


@pytest.mark.usefixtures("limit")
def test_a_wrong_large_pass_keeps_its_figures_and_is_told_apart_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, is_output=True, is_gradient=False)
    spec = replace(
        factory.memory_spec(factory.training_spec(batch_size=NUM_EXAMPLES)),
        worst_case_height=HEIGHT,
        worst_case_width=WIDTH,
    )
    monkeypatch.setattr(large_tensors, "MAX_ELEMENTS_PER_PIXEL", 256)
    record = TrialRecord.from_json(run(TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None).to_json()))
    assert record.status == "wrong"
    assert record.cause is not None
    assert record.cause.kind == "large-tensor"
    assert "differs from the same examples in 2 parts" in record.cause.message
    assert record.memory is not None
    assert record.memory.peak_allocated_bytes is not None
    assert record.large_tensors is not None
    assert record.large_tensors.num_examples == NUM_EXAMPLES


@pytest.mark.usefixtures("limit")
def test_a_comparison_without_room_is_a_warning_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(large_tensors, "_errors", run_out)
    spec = replace(
        factory.memory_spec(factory.training_spec(batch_size=NUM_EXAMPLES)),
        worst_case_height=HEIGHT,
        worst_case_width=WIDTH,
    )
    record = TrialRecord.from_json(run(TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None).to_json()))
    assert record.status == "ok"
    assert [warning.code for warning in record.warnings] == ["large-tensor-unchecked"]


@pytest.mark.usefixtures("limit")
def test_a_single_example_cannot_be_divided() -> None:
    spec = factory.training_spec()
    found = LargeTensorReading(num_elements=2 * LIMIT, height=HEIGHT, width=WIDTH, num_examples=1)
    assert compare_with_parts(spec, found, equality=check_equality(spec)) == found


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("asked", "built"), [("none", "none"), ("default", "default"), ("step", "default")])
def test_a_network_that_is_looked_into_is_compiled_without_the_loss(
    monkeypatch: pytest.MonkeyPatch, asked: Compile, built: Compile
) -> None:
    seen: list[Compile] = []

    def no_room(spec: TrialSpec, *, device: torch.device) -> OptimizerStep:
        seen.append(spec.compile)
        raise MemoryError

    monkeypatch.setattr(large_tensors, "build_step", no_room)
    found = LargeTensorReading(num_elements=2 * LIMIT, height=HEIGHT, width=WIDTH, num_examples=NUM_EXAMPLES)
    assert compare_with_parts(spec_of(compile=asked), found, equality=check_equality(spec_of())) == found
    assert seen == [built]


@pytest.mark.usefixtures("limit")
def test_a_changed_scale_of_the_loss_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp16 a gradient that overflows lowers the scale, perhaps for the parts only."""
    right = large_tensors._outcome
    scales: list[float] = []

    def outcome(step: OptimizerStep, batches: Any) -> Any:
        scales.append(2.0 ** (6 - 3 * len(scales)))
        step._scaler = torch.amp.GradScaler("cpu", init_scale=scales[-1])
        return right(step, batches)

    monkeypatch.setattr(large_tensors, "_outcome", outcome)
    reading = compared(spec_of(precision="fp16"))
    assert scales == [64.0, 8.0]
    assert reading.is_equal is True, reading


@pytest.mark.usefixtures("limit")
def test_a_network_whose_examples_see_each_other_is_not_compared() -> None:
    own = read_own_model(f"{OWN_NETWORK}:build", where="--model")
    spec = spec_of(model=own.name, model_id=own.model_id)
    found = find_large_tensors(spec, num_examples=NUM_EXAMPLES, height=HEIGHT, width=WIDTH)
    assert found is not None
    assert compare_with_parts(spec, found, equality=check_equality(spec)) == found


def test_a_failing_record_is_left_as_it_is() -> None:
    reading = LargeTensorReading(num_elements=3 * 10**9, height=640, width=12_800, num_examples=8)
    record = replace(factory.record_of(factory.training_spec(), status="oom"), large_tensors=reading)
    assert checked_large_tensors(record) is record
    fine = replace(factory.record_of(factory.training_spec()), large_tensors=reading)
    assert checked_large_tensors(fine) is fine


@pytest.mark.parametrize(("has_large_tensors", "kind"), [(True, "index-overflow"), (False, "exception")])
def test_an_illegal_address_in_a_large_tensor_is_an_overflown_index(has_large_tensors: bool, kind: str) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    status, cause = classify(error, has_large_tensors=has_large_tensors)
    assert (status, cause.kind) == ("crashed", kind)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", ["contiguous", "channels-last"])
@pytest.mark.parametrize("norm_precision", ["fp32", "input"])
def test_a_pass_beyond_2_31_elements_is_checked_on_a_gpu(memory_format: str, norm_precision: str) -> None:
    spec = factory.training_spec(
        device="cuda",
        model="veernet",
        batch_size=6,
        precision="bf16",
        norm_precision=norm_precision,
        checkpointing="stages",
        memory_format=memory_format,
    )
    found = find_large_tensors(spec, num_examples=6, height=640, width=12_800)
    assert found is not None
    reading = compare_with_parts(spec, found, equality=check_equality(spec))
    # Whether the kernels of this card are right is what is measured; here it is that the comparison takes place.
    assert reading.num_parts == 2
    assert reading.tolerance is not None
    print(reading)
