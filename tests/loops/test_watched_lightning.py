from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import segmentation
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from segmentation import SIZES_N2, ByHand, Cleared, Segmenter, make_loader, train

from vnbench.analysis.findings import Findings
from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.loops.observing.lightning import VnbenchCallback
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_results

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning warns about is its own


def watching(out: Path, **settings: Any) -> VnbenchCallback:
    return VnbenchCallback(out, **{"sizes": lambda batch: batch["sizes"], "warm_up_steps": 2, **settings})


def records_of(out: Path) -> list[TrialRecord]:
    return [TrialRecord.from_json(line) for line in out.read_bytes().splitlines()]


def told_by(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_each_epoch_leaves_a_record_of_its_steps(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    train(watching(out))
    epochs = records_of(out)
    assert [(one.kind, one.status, one.replicate, one.attempt) for one in epochs] == [
        ("observed", "ok", 0, 0),
        ("observed", "ok", 0, 1),
    ]
    for one in epochs:
        assert one.steps is not None
        assert one.batching is not None
        assert sum(one.steps["num_examples"]) == len(SIZES_N2)
        assert sum(one.steps["valid_pixels"]) == one.batching.valid_pixels == SIZES_N2.prod(axis=1).sum()
        assert sum(one.steps["padded_pixels"]) == one.batching.padded_pixels > one.batching.valid_pixels
        assert one.batching.lower_bound_padding_ratio <= one.batching.padding_ratio
        assert set(one.steps["num_micro_batches"]) == {1}
        assert all(loss > 0 for loss in one.steps["loss"])
        phases = [one.steps[f"{name}_s"] for name in ("data_wait", "forward", "backward", "optimizer")]
        for total_s, *parts_s in zip(one.steps["step_time_s"], *phases, strict=True):
            assert sum(parts_s) == pytest.approx(total_s)
        assert one.observed is not None
        assert one.observed.framework is not None
        assert one.observed.framework.startswith("lightning 2.")
        assert one.telemetry is not None
    assert [sum(one.steps["is_warm_up"]) for one in epochs if one.steps] == [2, 0]
    spec = epochs[0].spec
    assert (spec.model, spec.batch_size, spec.sampler, spec.loop, spec.precision, spec.num_workers) == (
        "segmentation.py:Segmenter",
        2,
        "bucketed",
        "lightning-automatic",
        "fp32",
        0,
    )


def test_a_run_is_one_process_of_all_its_epochs_and_the_next_run_another(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    train(watching(out))
    train(watching(out))
    found = Findings(load_results(out).records)
    assert [(one.replicate, one.attempt) for one in found.latest] == [(0, 1), (1, 1)]
    (summary,) = found.training
    assert summary.num_processes == 2
    assert summary.num_steps == 2 * (2 * 10 - 2)
    assert summary.epoch_time is not None


def test_a_run_of_another_batch_is_not_compared_with_it(tmp_path: Path) -> None:
    ids = set()
    for batch_size in (2, 4):
        out = tmp_path / f"{batch_size}.jsonl"
        train(watching(out), loader=make_loader(batch_size=batch_size, micro_batch_size=batch_size), max_epochs=1)
        ids.add(records_of(out)[0].spec_id)
    assert len(ids) == 2


def test_windows_are_steps_and_a_short_one_is_told(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    with pytest.warns(UserWarning, match="has 2 of 4 passes, and Lightning divides each loss by 4"):
        train(watching(out), accumulate_grad_batches=4)
    first, second = records_of(out)
    assert first.steps is not None
    assert first.steps["num_micro_batches"] == (4, 4, 2)
    assert first.observed is not None
    assert (first.observed.num_passes, first.observed.num_short_steps) == (4, 1)
    for one in (first, second):
        (warning,) = [one for one in one.warnings if one.code == "short-window"]
        assert warning.figures == {"num_passes": 2, "num_divided_by": 4}


def test_the_loss_of_a_step_is_that_of_its_passes_whatever_lightning_divides(tmp_path: Path) -> None:
    losses: list[float] = []

    class Told(Segmenter):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            losses.append(float(loss))
            return loss

    out = tmp_path / "run.jsonl"
    train(watching(out), module=Told(), accumulate_grad_batches=5, max_epochs=1)
    (record,) = records_of(out)
    assert record.steps is not None
    assert record.steps["loss"] == pytest.approx([sum(losses[:5]) / 5, sum(losses[5:]) / 5])


def test_steps_by_hand_are_counted_by_their_optimizer(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    train(watching(out), module=ByHand(), max_epochs=1)
    (record,) = records_of(out)
    assert record.spec.loop == "lightning"
    assert record.steps is not None
    assert record.steps["num_micro_batches"] == (2,) * 5
    assert "short-window" not in [one.code for one in record.warnings]


def test_validation_is_left_out_and_marked(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    train(watching(out), val_check_interval=5, max_epochs=1)
    (record,) = records_of(out)
    assert record.steps is not None
    assert record.observed is not None
    assert record.observed.validation_s is not None
    assert record.measured_span_s is not None
    start_s, end_s = record.measured_span_s
    assert sum(record.steps["step_time_s"]) + record.observed.validation_s <= end_s - start_s
    assert record.steps["is_after_validation"] == tuple(step == 5 for step in range(10))


def test_a_step_with_a_checkpoint_is_marked_and_does_not_count(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=5, save_top_k=-1)
    train(watching(out), others=[saving], max_epochs=1, enable_checkpointing=True)
    (record,) = records_of(out)
    assert record.steps is not None
    assert record.steps["is_snapshot"] == tuple(step == 5 for step in range(10))
    (summary,) = Findings([record]).training
    assert summary.num_steps == 10 - 2 - 1
    assert record.observed is not None
    assert record.observed.num_snapshots == 2


def test_a_run_that_fails_keeps_the_steps_that_ended(tmp_path: Path) -> None:
    class Failing(Segmenter):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
            if batch_idx == 7:
                raise RuntimeError("out of luck")
            return super().training_step(batch, batch_idx)

    out = tmp_path / "run.jsonl"
    with pytest.raises(RuntimeError, match="out of luck"):
        train(watching(out), module=Failing())
    (record,) = records_of(out)
    assert record.steps is not None
    assert len(record.steps["loss"]) == 7


def test_its_records_plan_the_rest_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run.jsonl")
    train(watching(Path(out)), max_epochs=3)
    plan = told_by("plan", out, "--examples", "2000", "--epochs", "7", capsys=capsys)
    spec = plan["recommended"]["spec"]
    assert (spec["batch_size"], spec["sampler"], spec["loop"]) == (2, "bucketed", "lightning-automatic")
    assert 0 < plan["recommended"]["wall_clock_s"]["p10"] < plan["recommended"]["wall_clock_s"]["p90"]
    assert any("FILE.py:FUNCTION stands for" in line for line in plan["warnings"])
    fit = told_by("fit", out, capsys=capsys)
    assert fit["models"][0]["num_sizes"] >= 3
    gate = told_by("gate", out, out, capsys=capsys)
    assert {row["metric"] for row in gate["rows"]} == {"status", "time"}
    assert run(["report", out, "--out", str(tmp_path / "report")]) == 0


def test_an_injected_fault_turns_the_audit_red_and_its_records_plan_nothing(tmp_path: Path) -> None:
    right, wrong = watching(tmp_path / "right.jsonl", audit_steps=4), watching(tmp_path / "wrong.jsonl", audit_steps=4)
    train(right, accumulate_grad_batches=2)
    assert right.findings == ()
    assert [one.status for one in records_of(tmp_path / "right.jsonl")] == ["ok", "ok"]
    with pytest.warns(UserWarning, match="this loop breaks its contract"):
        train(wrong, module=Cleared(), accumulate_grad_batches=2)
    assert {one.code for one in wrong.findings} == {"zeroed-each-pass"}
    for record in records_of(tmp_path / "wrong.jsonl"):
        assert record.status == "wrong"
        assert record.cause is not None
        assert record.cause.kind == "broken-loop"
    assert run(["plan", str(tmp_path / "wrong.jsonl"), "--examples", "100", "--epochs", "1"]) != 0


def test_what_a_batch_does_not_tell_is_asked_for_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the batch does not tell the sizes before padding.*sizes=lambda"):
        train(watching(tmp_path / "run.jsonl", sizes=None))
    with pytest.raises(InputError, match=r"a batch of 2 has \(2, 2\)"):
        train(watching(tmp_path / "run.jsonl", sizes=lambda batch: [(3, 4)]))
    with pytest.raises(InputError, match="within the canvas"):
        train(watching(tmp_path / "run.jsonl", sizes=lambda batch: [(3, 4000)] * 2))
    with pytest.raises(InputError, match="neither is negative"):
        watching(tmp_path / "run.jsonl", warm_up_steps=-1)
    assert not (tmp_path / "run.jsonl").exists()


def test_a_batch_that_cannot_be_read_later_costs_its_epoch_and_no_training(tmp_path: Path) -> None:
    passes: list[int] = []

    def sizes(batch: dict[str, Any]) -> Any:
        passes.append(len(passes))
        return [(1, 2, 3)] if passes[-1] == 3 else batch["sizes"]

    def no_sizes(batch: dict[str, Any]) -> Any:
        passes.append(len(passes))
        return batch["sizes"] if passes[-1] != 13 else batch["no such key"]

    for function in (sizes, no_sizes):
        passes.clear()
        out = tmp_path / f"{function.__name__}.jsonl"
        with pytest.warns(UserWarning, match="leaves no record"):
            train(watching(out, sizes=function))
        (record,) = records_of(out)
        assert record.observed is not None
        assert record.observed.epoch == (1 if function is sizes else 0)
        assert record.steps is not None
        assert len(record.steps["loss"]) == 10


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="folder"):
        train(watching(tmp_path / "taken"))


def test_a_full_disk_costs_no_record_and_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callback = watching(tmp_path / "run.jsonl")

    class Full(Callback):
        """Lets the disk be full in the first epoch."""

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            file: Any = callback._run and callback._run._file
            write = type(file).append
            told = InputError("run.jsonl", allowed="no room", remedy="make room")

            def append(self: Any, record: TrialRecord) -> None:
                if trainer.current_epoch == 0:
                    raise told
                write(self, record)

            monkeypatch.setattr(file, "append", append.__get__(file), raising=False)

    with pytest.warns(UserWarning, match="it is tried again after the next epoch"):
        train(callback, others=[Full()])
    assert [one.attempt for one in records_of(tmp_path / "run.jsonl")] == [0, 1]


def test_no_module_of_lightning_is_needed_to_read_records(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(watching(out), max_epochs=1)
    (record,) = records_of(out)
    assert TrialRecord.from_json(record.to_json()) == record
    assert segmentation.SIZES_N2.shape == (20, 2)
