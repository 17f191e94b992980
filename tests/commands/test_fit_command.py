from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import record_factory as factory
from suggestions import commands_in, pasted_sweep

from vnbench.cli.app import run
from vnbench.records.record import TrialRecord

KEYS = {"family", "num_sizes", "overhead_s", "s_per_pixel", "bytes_fixed", "bytes_per_pixel", "loo_error_median"}


def write(path: Path, *records: TrialRecord) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


def test_models_are_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", write(tmp_path / "r.jsonl", *factory.compute_sweep(replicates=3)), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["models"]) == 4
    for model in report["models"]:
        assert model.keys() >= KEYS | {"loo_error_max", "step_count_model"}
        assert model["step_count_model"].keys() == {"s_per_step", "loo_error_median", "loo_error_max"}
        assert model["forecast"]["low_s"] < model["forecast"]["step_time_s"] < model["forecast"]["high_s"]
    assert report["step_counting"]


def test_the_table_names_models_errors_bends_and_what_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = factory.compute_spec(precision="tf32", canvas_sizes=((640, 6400), (480, 3200)))
    records = [factory.measured_compute_record(factory.compute_spec(micro_batch_size=size)) for size in (1, 4)]
    path = write(tmp_path / "r.jsonl", *records, factory.measured_compute_record(few))
    assert run(["fit", path]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Run-to-run differences were not measured: intervals assume 3.0 %" in text
    assert "not linear: micro-batch 1: the largest canvas computes " in text
    assert "if every step cost the same: at" in text
    assert "not fitted: " in text
    assert "2 sizes timed, 3 are needed" in text


def test_memory_by_two_sizes_is_said_to_be_a_line_without_an_error_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "fixed, bytes per px: a line through two sizes in 1 configuration"
    for sizes, is_said in (((1, 2), True), ((1, 2, 4), False)):
        memory = [factory.measured_memory_record(factory.training_spec(batch_size=size)) for size in sizes]
        compute = factory.measured_compute_record(factory.compute_spec())
        canvases = tuple(dataclasses.replace(one, peak_allocated_bytes=None) for one in compute.canvases)
        records = [*memory, dataclasses.replace(compute, canvases=canvases)]
        assert run(["fit", write(tmp_path / f"{len(sizes)}.jsonl", *records)]) == 0
        assert (said in " ".join(capsys.readouterr().out.split())) is is_said


def test_forecasts_are_left_out_of_a_fit_whatever_their_cards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecasts = [factory.forecast_record(factory.forecast_spec(card=card)) for card in ("H200", "L4")]
    measured = factory.compute_sweep(replicates=1)
    assert run(["fit", write(tmp_path / "m.jsonl", *measured), "--json"]) == 0
    alone = capsys.readouterr()
    assert run(["fit", write(tmp_path / "r.jsonl", *forecasts, *measured), "--json"]) == 0
    both = capsys.readouterr()
    assert both.out == alone.out
    assert "2 forecasts left out: a fit is to steps that were measured" in both.err
    told = refusal(["fit", write(tmp_path / "f.jsonl", *forecasts)], capsys)
    assert "these are forecasts, and a fit is to steps that were measured" in told


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_bad_input_is_refused_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    assert "there is no record in it" in refusal(["fit", write(path)], capsys)
    two = [factory.compute_spec(precision=one, canvas_sizes=((640, 6400), (480, 3200))) for one in ("fp32", "bf16")]
    told = refusal(["fit", write(path, *map(factory.measured_compute_record, two))], capsys)
    assert "there is nothing to fit (2 configurations: 2 sizes timed, 3 are needed; " in told
    failed = factory.record_of(factory.compute_spec(), status="oom")
    told = refusal(["fit", write(path, failed)], capsys)
    assert "there is nothing to fit" in told
    assert "(for images of your own: --images DIR in place of --widths and --heights) with: vnbench sweep " in told
    (command,) = commands_in(told.splitlines())
    assert pasted_sweep(command).values["kind"] == ("compute",)
    assert "made to end oom" in refusal(["fit", write(path, failed)], capsys)
    memory = factory.measured_memory_record(factory.training_spec())
    assert "no compute or training trial" in refusal(["fit", write(path, memory)], capsys)
    constant = factory.compute_spec(canvas_sizes=((640, 6400),))
    assert "1 size timed" in refusal(["fit", write(path, factory.measured_compute_record(constant))], capsys)
    here = factory.measured_compute_record(factory.compute_spec())
    elsewhere = factory.measured_compute_record(factory.compute_spec(device="cuda", model="veernet"))
    assert "trials of one device" in refusal(["fit", write(path, here, elsewhere)], capsys)
    other_torch = dataclasses.replace(here, environment=dict(here.environment) | {"torch_version": "2.11.0"})
    assert "one model holds for one version of torch" in refusal(["fit", write(path, here, other_torch)], capsys)
    other_schema = json.loads(here.to_json()) | {"schema_version": 99}
    path.write_text(json.dumps(other_schema) + "\n")
    assert "schema version" in refusal(["fit", str(path)], capsys)
    assert "r.jsonl" in refusal(["fit", str(tmp_path / "missing" / "r.jsonl")], capsys)
