from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import record_factory as factory
import torch
from torch import Tensor

from vnbench.model.normalization import ExplicitGroupNorm
from vnbench.records.readings import EqualityReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks import equality
from vnbench.trial.checks.equality import check_equality, checked_equality, round_to
from vnbench.trial.entry import run
from vnbench.trial.step import optimizer_step as step_module
from vnbench.trial.step.optimizer_step import OptimizerStep
from vnbench.trial.step.switches import set_arithmetic

CONFIGURATIONS = [
    ("fp32", "fp32"),
    ("bf16", "fp32"),
    ("bf16", "input"),
    ("fp16", "fp32"),
    ("fp16", "input"),
]


@pytest.fixture(autouse=True)
def _arithmetic() -> Iterator[None]:
    yield
    set_arithmetic("fp32")


LEVERS: list[dict[str, Any]] = [
    {},
    {"checkpointing": "stages"},
    {"checkpointing": "selective"},
    {"memory_format": "channels-last"},
    {"padding": "exact"},
    {"norm_kernel": "split"},
]


def spec_of(**changes: Any) -> TrialSpec:
    return factory.training_spec(batch_size=2, **changes)


@pytest.mark.parametrize(
    ("precision", "norm_precision", "levers"),
    # On the CPU fp16 takes ten times as long as the others: levers meet it on a GPU.
    [(*one, levers) for one in CONFIGURATIONS for levers in LEVERS if one[0] != "fp16" or not levers],
)
def test_a_right_configuration_is_equal(precision: str, norm_precision: str, levers: dict[str, Any]) -> None:
    for seed in range(1 if levers else 2):
        spec = spec_of(precision=precision, norm_precision=norm_precision, seed=seed, **levers)
        reading = check_equality(spec)
        assert reading.is_equal, reading
        assert reading.num_passes == 2
        assert reading.gradient_error is not None
        assert 0 < reading.rounding_gradient_error < 0.1


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "norm_precision"), [*CONFIGURATIONS, ("tf32", "fp32")])
@pytest.mark.parametrize("levers", [*LEVERS, {"cuda_graphs": "on"}])
def test_a_right_configuration_is_equal_on_a_gpu(precision: str, norm_precision: str, levers: dict[str, Any]) -> None:
    spec = spec_of(precision=precision, norm_precision=norm_precision, device="cuda", model="veernet", **levers)
    reading = check_equality(spec)
    assert reading.is_equal, reading


def test_a_lost_division_by_the_whole_steps_examples_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OptimizerStep._accumulate

    def wrong(self: OptimizerStep, batch: Any, *, num_examples: int, timer: Any) -> Tensor:
        return right(self, batch, num_examples=len(batch.sizes_B2), timer=timer)

    monkeypatch.setattr(OptimizerStep, "_accumulate", wrong)
    for precision in ("fp32", "bf16"):
        reading = check_equality(spec_of(precision=precision))
        assert not reading.is_equal
        assert reading.loss_error == pytest.approx(1.0, rel=0.05)
        assert reading.gradient_error == pytest.approx(1.0, rel=0.1)


def test_a_norm_in_lower_precision_than_is_said_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ExplicitGroupNorm.forward

    def wrong(self: ExplicitGroupNorm, x_BCHW: Tensor, mask_B1HW: Tensor | None = None) -> Tensor:
        if self.precision == "fp32":
            return right(self, x_BCHW, mask_B1HW)
        return right(self, x_BCHW.bfloat16(), mask_B1HW).float()

    monkeypatch.setattr(ExplicitGroupNorm, "forward", wrong)
    reading = check_equality(spec_of(precision="fp32", norm_precision="input"))
    assert not reading.is_equal
    assert reading.loss_error is not None


def test_examples_whose_output_is_zero_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As kernels do that count elements in 32 bits: the examples at the end of a large tensor come out as zeros."""
    right = step_module.tversky_loss_sum

    def wrong(logits_BKHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor, **others: Any) -> Tensor:
        if logits_BKHW.dtype == torch.bfloat16:
            logits_BKHW = torch.cat((logits_BKHW[:-1], torch.zeros_like(logits_BKHW[-1:])))
        return right(logits_BKHW, targets_BHW, valid_BHW, **others)

    monkeypatch.setattr(step_module, "tversky_loss_sum", wrong)
    assert not check_equality(spec_of(precision="bf16")).is_equal


def test_a_gradient_that_is_no_number_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    right = step_module.tversky_loss_sum

    def wrong(logits_BKHW: Tensor, targets_BHW: Tensor, valid_BHW: Tensor, **others: Any) -> Tensor:
        loss = right(logits_BKHW, targets_BHW, valid_BHW, **others)
        return loss * float("nan") if logits_BKHW.dtype == torch.float16 else loss

    monkeypatch.setattr(step_module, "tversky_loss_sum", wrong)
    # Fewer of the slow passes in fp16 until no smaller scale of the loss is left to be tried.
    monkeypatch.setattr(step_module, "OVERFLOW_STRIDE", 2.0**16)
    reading = check_equality(spec_of(precision="fp16"))
    assert reading.gradient_error is None
    assert not reading.is_equal


def test_tf32_does_not_pass_for_fp32() -> None:
    """What rounding to TF32's bits does by itself is twice what fp32 may be off by."""
    reading = check_equality(spec_of(precision="fp32"))
    assert reading.rounding_gradient_error == pytest.approx(2 * reading.gradient_tolerance)


def test_an_error_of_one_draw_alone_is_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    right = equality._compare
    draws = []

    def flipped(spec: TrialSpec, *, draw: int) -> EqualityReading:
        draws.append(draw)
        reading = right(spec, draw=draw)
        return replace(reading, gradient_error=1.0) if draw == 0 else reading

    monkeypatch.setattr(equality, "_compare", flipped)
    reading = check_equality(spec_of(precision="fp32"))
    assert reading.is_equal
    assert draws == [0, 1]
    first, second = (right(spec_of(precision="fp32"), draw=draw) for draw in range(2))
    assert first.rounding_gradient_error != second.rounding_gradient_error, "other examples"


def test_rounding_is_that_of_the_type() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(round_to(values, 8), values.bfloat16().float())
    assert torch.equal(round_to(values, 11), values.half().float())
    assert torch.equal(round_to(torch.tensor([0.0, 1.0, -2.0]), 8), torch.tensor([0.0, 1.0, -2.0]))


def test_a_wrong_trial_keeps_its_figures_and_says_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OptimizerStep._accumulate

    def wrong(self: OptimizerStep, batch: Any, *, num_examples: int, timer: Any) -> Tensor:
        return right(self, batch, num_examples=len(batch.sizes_B2), timer=timer)

    monkeypatch.setattr(OptimizerStep, "_accumulate", wrong)
    spec = factory.compute_spec(canvas_sizes=((32, 64),), num_warm_up_steps=1, min_steps=2, max_steps=2)
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None)
    record = TrialRecord.from_json(run(task.to_json()))
    assert (record.status, record.cause and record.cause.kind) == ("wrong", "unequal-step")
    assert record.cause is not None
    assert "gradient by" in record.cause.message
    assert record.canvases
    assert record.steps is not None
    assert record.equality is not None
    assert TrialRecord.from_json(record.to_json()) == record


def test_a_record_without_a_reading_is_left_as_it_is() -> None:
    record = factory.measured_training_record(factory.training_spec())
    assert checked_equality(record) is record
    failed = replace(factory.record_of(factory.training_spec(), status="oom"), equality=None)
    assert checked_equality(failed) is failed
