from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import record_factory as factory

import vnbench.frames
from vnbench.analysis.trials.compute import summarize_compute
from vnbench.analysis.trials.process import compute_figures
from vnbench.analysis.trials.summary import latest_attempts, summarize
from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import LEVERS, ImagesSpec
from vnbench.records.step_columns import STEP_COLUMNS

RESULTS = Path(__file__).parents[2] / "results" / "cpu-amd-epyc"
WHATS = ("trials", "steps", "canvases", "plan")


def write(path: Path, *records: TrialRecord) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture
def results(tmp_path: Path) -> str:
    loader = factory.measured_loader_record(factory.loader_spec())
    return write(tmp_path / "r.jsonl", *factory.cpu_sweep(), *factory.compute_sweep(device="cpu"), loader)


def exported(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["export", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("what", WHATS)
def test_csv_json_and_frames_hold_the_same(results: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(exported([results, "--what", what], capsys))))
    objects = json.loads(exported([results, "--what", what, "--format", "json"], capsys))
    frame = vnbench.frames.load(results, what)  # type: ignore[arg-type]
    assert len(rows) == len(objects) == len(frame) > 0
    assert list(rows[0]) == list(objects[0]) == list(frame.columns)
    for row, told in zip(rows, objects, strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in told.items()}
    for key in frame.columns:
        assert frame[key].isna().tolist() == [one[key] is None for one in objects]


def test_a_trial_is_told_with_every_lever_and_the_figures_of_its_kind(results: str) -> None:
    frame = vnbench.frames.load(results)
    records = factory.cpu_sweep()
    assert set(LEVERS) <= set(frame.columns)
    trained = frame[frame.kind == "training"].reset_index()
    for index, summary in enumerate(summarize(records)):
        assert trained.step_time_s[index] == pytest.approx(summary.step_time.value)
        assert trained.valid_px_per_s[index] == pytest.approx(summary.valid_px_per_s.value)
    assert (trained.step_time_s_half_width > 0).all()
    assert frame[frame.kind == "memory"].need_bytes.notna().all()
    assert frame[frame.kind == "memory"].step_time_s.isna().all()
    assert frame[frame.kind == "loader"].examples_per_s.notna().all()
    assert frame.trial_id.is_unique
    assert set(frame.device_name) == {factory.CPU_ENVIRONMENT["device_name"]}
    assert frame.started_at.dt.tz is not None


def test_only_the_latest_attempt_at_a_trial_is_told_and_why_it_failed(tmp_path: Path) -> None:
    record = factory.cpu_sweep()[0]
    failed = factory.record_of(record.spec, status="oom", attempt=1)
    frame = vnbench.frames.load(write(tmp_path / "r.jsonl", record, failed))
    assert frame.status.tolist() == ["oom"]
    assert frame.cause.tolist() == [failed.cause.kind if failed.cause else None]


def test_steps_go_with_their_trials(results: str) -> None:
    trials, steps = vnbench.frames.load([results]), vnbench.frames.load([results], "steps")
    assert set(STEP_COLUMNS) <= set(steps.columns)
    records = [record for record in factory.cpu_sweep() if record.steps]
    of_first = steps[steps.trial_id == records[0].trial_id]
    assert records[0].steps is not None
    assert of_first.step_time_s.tolist() == list(records[0].steps["step_time_s"])
    assert of_first.step.tolist() == list(range(len(of_first)))
    assert len(steps.merge(trials, on="trial_id")) == len(steps)


def test_canvases_have_the_figures_and_half_widths_of_their_own_trial(results: str) -> None:
    frame = vnbench.frames.load(results, "canvases")
    records = latest_attempts(factory.compute_sweep(device="cpu"))
    spread = summarize_compute(records)[0].spread
    assert spread is not None
    for record in records:
        own = frame[frame.trial_id == record.trial_id]
        assert own.canvas_width.tolist() == [canvas.width for canvas in record.canvases]
        figures = compute_figures(record)
        for row in own.itertuples():
            figure = figures[row.canvas_height, row.canvas_width].step_time
            assert figure is not None
            assert row.step_time_s == figure.value
            # What differs between processes is in it, known from the trial that was repeated.
            assert row.step_time_s_half_width > spread.relative_between * row.step_time_s


def test_a_plan_is_of_the_run_that_is_asked_for(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_options = ["--examples", "200", "--epochs", "2"]
    assert run(["plan", results, *run_options, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["configurations"]
    rows = json.loads(exported([results, "--what", "plan", "--format", "json", *run_options], capsys))
    assert [row["wall_clock_p50_s"] for row in rows] == [one["wall_clock_s"]["p50"] for one in planned]
    assert [row["batch_size"] for row in rows] == [one["spec"]["batch_size"] for one in planned]
    frame = vnbench.frames.load(results, "plan", examples=200, epochs=2)
    assert frame.wall_clock_p50_s.tolist() == [row["wall_clock_p50_s"] for row in rows]


def test_frames_of_any_records_have_the_same_types(tmp_path: Path, results: str) -> None:
    nothing = write(tmp_path / "one.jsonl", factory.record_of(factory.training_spec(), status="crashed"))
    for what in ("trials", "steps", "canvases"):
        full, empty = (vnbench.frames.load(path, what) for path in (results, nothing))  # type: ignore[arg-type]
        assert full.dtypes.to_dict() == empty.dtypes.to_dict()


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_file_that_ships_is_exported(path: Path) -> None:
    trials = vnbench.frames.load(path)
    assert len(trials) > 0
    assert len(vnbench.frames.load(path, "steps")) >= trials.num_steps.sum()


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    first, *others = factory.cpu_sweep()
    write(tmp_path / "a.jsonl", first)
    write(tmp_path / "b.jsonl", *others)
    assert len(vnbench.frames.load(tmp_path)) == len(vnbench.frames.load(tmp_path / "b.jsonl")) + 1


def test_what_cannot_be_read_is_warned_of(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "r.jsonl", *factory.cpu_sweep()))
    path.write_text(path.read_text(encoding="utf-8") + "{}\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="left out"):
        vnbench.frames.load(path)


def test_a_file_is_written_where_it_is_asked_for(
    tmp_path: Path, results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    text = exported([results], capsys)
    assert exported([results, "--out", str(out)], capsys) == ""
    assert out.read_text() == text


def test_parquet_keeps_every_column_and_type(tmp_path: Path, results: str) -> None:
    pytest.importorskip("pyarrow")
    import pandas

    out = tmp_path / "t.parquet"
    assert run(["export", results, "--format", "parquet", "--out", str(out)]) == 0
    frame = vnbench.frames.load(results)
    pandas.testing.assert_frame_equal(pandas.read_parquet(out), frame, check_dtype=False)


def test_bad_input_is_refused_in_one_message(
    tmp_path: Path, results: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(*arguments: str) -> str:
        assert run(["export", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        return err

    assert "--what step: must be one of trials, steps, canvases, plan; write steps" in refusal(
        results, "--what", "step"
    )
    assert "--format xls: must be one of csv, parquet, json" in refusal(results, "--format", "xls")
    assert "add --out FILE.parquet" in refusal(results, "--format", "parquet")
    assert "--examples 5: it is of a plan; write --what plan" in refusal(results, "--examples", "5")
    assert "cannot be written" in refusal(results, "--out", str(tmp_path / "no" / "t.csv"))
    (tmp_path / "empty").mkdir()
    assert "there is no results file in this folder" in refusal(str(tmp_path / "empty"))
    other = write(tmp_path / "notes.txt")
    assert "there is no record in it" in refusal(other)
    assert "No such file" in refusal(str(tmp_path / "none.jsonl"))
    gpu = write(tmp_path / "gpu.jsonl", *factory.cuda_sweep())
    assert "the trials of one device" in refusal(results, gpu)
    moved = write(
        tmp_path / "other.jsonl",
        *(
            replace(record, spec=replace(record.spec, corpus_id="ba9876543210"))
            for record in factory.cpu_sweep()
            if isinstance(record.spec, ImagesSpec)
        ),
    )
    assert "choose one with --corpus-id" in refusal(results, moved)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refusal(results, "--format", "parquet", "--out", str(tmp_path / "t.parquet"))
    assert "pip install 'vnbench[parquet]'" in line


def test_a_python_caller_is_told_of_an_option_that_no_plan_has(results: str) -> None:
    with pytest.raises(InputError, match="example: must be one of"):
        vnbench.frames.load(results, "plan", example=5)


@pytest.mark.processes
def test_a_full_disk_behind_stdout_is_told_in_one_line() -> None:
    command = [sys.executable, "-m", "vnbench", "export", str(RESULTS / "readme.jsonl")]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "vnbench: stdout: cannot be written (No space left on device); send it where there is room\n"


@pytest.mark.processes
def test_a_reader_that_closes_early_gets_no_traceback(tmp_path: Path) -> None:
    path = RESULTS / "readme.jsonl"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vnbench", "export", str(path), "--what", "steps"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.processes
def test_pandas_is_imported_by_nothing_but_frames(results: str) -> None:
    script = (
        f"import sys; from vnbench.cli.app import run; run(['export', {results!r}]); sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_table_replaces_a_table_and_nothing_else(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(results).read_bytes()
    assert run(["export", results, "--out", results]) == 2
    assert "would be lost" in capsys.readouterr().err
    assert Path(results).read_bytes() == before
    for file_format in ("csv", "json"):
        out = str(tmp_path / f"t.{file_format}")
        assert [run(["export", results, "--format", file_format, "--out", out]) for _ in range(2)] == [0, 0]
