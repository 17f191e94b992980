from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory

from vnbench.images.corpus import Corpus
from vnbench.records.readings import ParityReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ComputeSpec, TrialSpec
from vnbench.records.spec.words import Loop, Precision
from vnbench.records.task import TrialTask
from vnbench.trial.checks.parity import PASSES_OF_STEPS, check_parity, checked_parity
from vnbench.trial.entry import run
from vnbench.trial.step.optimizer_step import OptimizerStep
from vnbench.trial.step.switches import set_arithmetic

pytest.importorskip("lightning")

LOOPS: tuple[Loop, ...] = ("lightning", "lightning-automatic", "fabric")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")


@pytest.fixture(autouse=True)
def _arithmetic() -> Iterator[None]:
    yield
    set_arithmetic("fp32")


def spec_of(loop: Loop, **changes: Any) -> ComputeSpec:
    changes = {"canvas_sizes": ((64, 160), (32, 64)), "min_steps": 2, "max_steps": 6, "max_measuring_s": 30.0} | changes
    return factory.compute_spec(loop=loop, **changes)


def record_of(spec: TrialSpec) -> TrialRecord:
    return TrialRecord.from_json(run(TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None).to_json()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("loop", LOOPS)
def test_every_loop_trains_to_the_same_bits_with_a_short_last_window(
    loop: Loop, precision: Precision, device: str
) -> None:
    set_arithmetic(precision)
    reading = check_parity(spec_of(loop, precision=precision, device=device, batch_size=2, micro_batch_size=2))
    assert reading is not None
    assert reading.is_equal
    assert device == "cuda" or reading.differs_in is None
    assert (reading.num_steps, reading.num_passes) == (3, sum(PASSES_OF_STEPS))


def test_the_own_loop_is_not_compared_with_itself() -> None:
    assert check_parity(spec_of("own")) is None


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_scales_its_loss_otherwise_is_wrong(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.strategies import Strategy as OfFabric
    from lightning.pytorch.strategies import Strategy as OfTrainer

    strategy: Any = OfFabric if loop == "fabric" else OfTrainer
    backward = strategy.backward
    monkeypatch.setattr(
        strategy, "backward", lambda self, loss, *more, **named: backward(self, loss / 3, *more, **named)
    )
    record = record_of(spec_of(loop))
    assert record.status == "wrong"
    assert record.cause is not None
    assert record.cause.kind == "unequal-loop"
    assert record.parity is not None
    assert record.parity.differs_in is not None
    assert record.parity.differs_in in record.cause.message
    assert record.canvases, "what was measured is kept"


def test_a_difference_says_nothing_where_the_own_loop_does_not_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    loss_of, calls = OptimizerStep.loss_of, iter(range(10**6))
    monkeypatch.setattr(OptimizerStep, "loss_of", lambda self, *maps: loss_of(self, *maps) * (1 + 1e-3 * next(calls)))
    reading = check_parity(spec_of("fabric"))
    assert reading is not None
    assert reading.differs_in is not None
    assert not reading.is_reproducible
    assert reading.is_equal


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_compute_trial_has_pairs_of_steps_in_turn_on_each_canvas(
    loop: Loop, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    record = record_of(spec_of(loop, device=device))
    assert record.status == "ok", record.cause
    assert [len(canvas.loop_pairs_s) for canvas in record.canvases] == [6, 6]
    assert all(own_s > 0 and loop_s > 0 for canvas in record.canvases for own_s, loop_s in canvas.loop_pairs_s)
    assert not list(tmp_path.glob("vnbench-*")), "nothing is left behind"


@pytest.mark.parametrize("features", ["log", "defaults"])
def test_a_trainer_logs_and_writes_only_into_its_own_folder(
    features: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = record_of(spec_of("lightning", loop_features=features, canvas_sizes=((32, 64),)))
    assert record.status == "ok", record.cause
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loop", LOOPS)
def test_training_in_a_framework_has_the_losses_and_batches_of_the_own_loop(loop: Loop, built: Corpus) -> None:
    changes = {"corpus_id": built.corpus_id, "subset_size": 4, "batch_size": 4, "micro_batch_size": 2}
    spec = factory.training_spec(device="cpu", precision="fp32", norm_precision="fp32", num_workers=0, **changes)

    def trained(loop: Loop) -> TrialRecord:
        task = TrialTask(spec=replace(spec, loop=loop), replicate=0, attempt=0, corpus_directory=str(built.directory))
        record = TrialRecord.from_json(run(task.to_json()))
        assert record.status == "ok", record.cause
        return record

    own, found = trained("own"), trained(loop)
    assert own.steps is not None
    assert found.steps is not None
    for name in ("loss", "num_examples", "num_micro_batches", "padded_pixels", "canvas_width", "is_warm_up"):
        assert found.steps[name] == own.steps[name], name


def test_an_automatic_loop_refuses_steps_of_other_numbers_of_passes(built: Corpus) -> None:
    changes = {"corpus_id": built.corpus_id, "subset_size": 6, "batch_size": 4, "micro_batch_size": 2}
    spec = factory.training_spec(device="cpu", num_workers=0, loop="lightning-automatic", **changes)
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=str(built.directory))
    record = TrialRecord.from_json(run(task.to_json()))
    assert record.cause is not None
    assert "--loop lightning" in record.cause.message


def test_a_record_of_a_loop_that_does_not_repeat_itself_stays_ok() -> None:
    reading = ParityReading(differs_in="stem.weight", is_reproducible=False, num_steps=3, num_passes=8, elapsed_s=1.0)
    record = replace(factory.record_of(spec_of("fabric")), parity=reading)
    assert checked_parity(record).status == "ok"
    assert checked_parity(replace(record, parity=replace(reading, is_reproducible=True))).status == "wrong"
