from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
from suggestions import commands_in, pasted_sweep

from vnbench.cli.app import run
from vnbench.records.record import TrialRecord

ROW_KEYS = {
    "spec_id",
    "metric",
    "baseline",
    "candidate",
    "ratio",
    "interval",
    "smallest_detectable",
    "verdict",
    "reason",
}
CI_VARIABLES = ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS")


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def write(path: Path, records: Sequence[TrialRecord]) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


def sweep(*, slower: float = 1.0, processes: int = 5, **changes: Any) -> list[TrialRecord]:
    """Return trials of three configurations in some processes, and the worst case of their family."""
    specs = [
        factory.training_spec(**({"batch_size": 2} | one))
        for one in ({}, {"precision": "bf16"}, {"sampler": "bucketed"})
    ]
    records = [
        factory.measured_training_record(spec, replicate=number, **changes)
        for spec in specs
        for number in range(processes)
    ]
    return [slowed(record, slower) for record in records] + [factory.measured_memory_record(specs[0])]


def later(records: Sequence[TrialRecord], days: int) -> list[TrialRecord]:
    """Return the records as if they had been measured some days later."""
    return [
        dataclasses.replace(
            record, started_at=(datetime.fromisoformat(record.started_at) + timedelta(days=days)).isoformat()
        )
        for record in records
    ]


def slowed(record: TrialRecord, factor: float) -> TrialRecord:
    assert record.steps is not None
    times = tuple(factor * seconds for seconds in record.steps["step_time_s"])
    return dataclasses.replace(record, steps=dict(record.steps) | {"step_time_s": times})


def gate(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run(["gate", *arguments, "--json"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def test_identical_records_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", sweep())
    code, report = gate([path, path], capsys)
    assert code == 0
    assert report["outcome"] == "pass"
    assert {row["verdict"] for row in report["rows"]} == {"same"}
    assert all(row.keys() >= ROW_KEYS for row in report["rows"])
    assert {row["metric"] for row in report["rows"]} == {
        "status",
        "time",
        "memory",
        "padding",
        "epoch_padding",
        "shapes",
    }


def test_a_comparison_of_a_file_with_itself_is_remarked_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, copy = write(tmp_path / "a.jsonl", sweep()), write(tmp_path / "b.jsonl", sweep())
    for other, is_told in ((path, True), (copy, False)):
        assert run(["gate", path, other, "--json"]) == 0
        assert ("a comparison with itself always passes" in capsys.readouterr().err) is is_told


def test_noise_is_excused_in_junit_though_another_row_is_worse(tmp_path: Path) -> None:
    before, after = sweep(), sweep(slower=1.01)
    assert after[-1].memory is not None
    larger = dataclasses.replace(after[-1].memory, peak_allocated_bytes=2**40)
    worse = dataclasses.replace(after[-1], memory=larger)
    paths = [write(tmp_path / "a.jsonl", before), write(tmp_path / "b.jsonl", [*after[:-1], worse])]
    assert run(["gate", *paths, "--on-undecided", "warn", "--junit", str(tmp_path / "j.xml")]) == 1
    xml = (tmp_path / "j.xml").read_text()
    assert '<failure type="worse"' in xml
    assert '<skipped type="ambiguous"' in xml
    assert "<error" not in xml


def test_a_slowdown_is_a_regression_and_its_reversal_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast, slow = write(tmp_path / "a.jsonl", sweep()), write(tmp_path / "b.jsonl", sweep(slower=1.5))
    code, report = gate([fast, slow], capsys)
    assert (code, report["outcome"]) == (1, "regression")
    worse = [row for row in report["rows"] if row["verdict"] == "worse"]
    assert {row["metric"] for row in worse} == {"time"}
    assert all(row["ratio"] == pytest.approx(1.5) for row in worse)
    assert all(row["interval"][0] > 1 for row in worse)
    assert gate([slow, fast], capsys)[0] == 0


def test_one_sweep_a_side_cannot_tell_a_change_from_a_slow_hour_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write(tmp_path / "a.jsonl", sweep()), write(tmp_path / "b.jsonl", sweep(slower=1.1))]
    assert run(["gate", *paths]) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "Too few sweeps of one revision to tell a change from a sweep that was slow as a whole" in told
    assert "measure both sides in turn (--against REV" in told
    assert run(["gate", *paths, "--sweep-spread", "0"]) == 1
    assert run(["gate", *paths, "--sweep-spread", "30%"]) == 3


def test_noise_leaves_it_undecided_unless_that_is_put_up_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write(tmp_path / "a.jsonl", sweep()), write(tmp_path / "b.jsonl", sweep(slower=1.01))]
    code, report = gate(paths, capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert gate([*paths, "--on-undecided", "warn"], capsys)[0] == 0
    assert gate([*paths, "--tolerance-time", "50%"], capsys)[0] == 0


def test_on_undecided_does_not_excuse_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = sweep()
    paths = [write(tmp_path / "a.jsonl", records), write(tmp_path / "b.jsonl", records[5:])]
    code, report = gate([*paths, "--on-undecided", "warn"], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert {row["verdict"] for row in report["rows"]} == {"same", "missing"}


def test_a_failure_more_memory_and_more_padding_are_regressions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = sweep()
    base = write(tmp_path / "a.jsonl", records)
    memory = records[-1].memory
    assert memory is not None
    assert memory.peak_allocated_bytes is not None
    more = dataclasses.replace(memory, peak_allocated_bytes=int(1.02 * memory.peak_allocated_bytes))
    steps = records[0].steps
    assert steps is not None
    padded = dict(steps) | {"padded_pixels": tuple(int(1.05 * pixels) for pixels in steps["padded_pixels"])}
    plan = records[0].batching
    assert plan is not None
    wasteful = dataclasses.replace(plan, padded_pixels=int(1.01 * plan.padded_pixels))
    for metric, changed in {
        "status": [factory.record_of(records[0].spec, status="oom"), *records[1:]],
        "memory": [*records[:-1], dataclasses.replace(records[-1], memory=more)],
        "epoch_padding": [*(dataclasses.replace(one, batching=wasteful) for one in records[:5]), *records[5:]],
        "padding": [*(dataclasses.replace(records[0], steps=padded, replicate=n) for n in range(5)), *records[5:]],
    }.items():
        code, report = gate([base, write(tmp_path / "b.jsonl", changed)], capsys)
        assert code == 1
        assert {row["metric"] for row in report["rows"] if row["verdict"] == "worse"} == {metric}


def test_another_machine_is_not_comparable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"device_name": "another", "torch_version": "2.13.0+cpu"}
    paths = [write(tmp_path / "a.jsonl", sweep()), write(tmp_path / "b.jsonl", sweep(environment=other)[:-1])]
    code, report = gate(paths, capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert report["differing"] == [f"device: baseline {factory.CPU_ENVIRONMENT['device_name']}, candidate another"]
    assert report["rows"] == []


def test_one_thread_against_two_is_undecided_and_what_has_no_time_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, fast = (
        write(
            tmp_path / f"{threads}.jsonl",
            sweep(slower=2.0 / threads, environment=factory.CPU_ENVIRONMENT | {"num_threads": threads}),
        )
        for threads in (1, 2)
    )
    for asked in ([], ["--metrics", "memory,time"]):
        code, report = gate([slow, fast, *asked, "--on-undecided", "warn"], capsys)
        assert (code, report["outcome"], report["rows"]) == (3, "undecided", [])
        assert report["differing"] == ["num_threads: baseline 1, candidate 2"]
    assert run(["gate", slow, fast]) == 3
    assert "num_threads: baseline 1, candidate 2" in capsys.readouterr().out
    code, report = gate([slow, fast, "--metrics", "status,memory,padding"], capsys)
    assert (code, report["outcome"]) == (0, "pass")
    assert {row["metric"] for row in report["rows"]} == {"status", "memory", "padding"}


def test_a_missing_baseline_is_undecided_and_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = write(tmp_path / "b.jsonl", sweep())
    code, report = gate([str(tmp_path / "none.json"), candidate], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert "--update" in report["notes"][0]
    assert run(["gate", str(tmp_path / "none.json"), candidate]) == 3
    assert "there is no baseline" in capsys.readouterr().out
    _, report = gate([str(tmp_path / "none.jsonl"), candidate], capsys)
    (command,) = commands_in(report["notes"])
    values = pasted_sweep(command).values
    assert (values["out"], values["model"]) == (tmp_path / "none.jsonl", "veernet-tiny")


def test_what_a_calibration_lacks_is_measured_by_a_command_that_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write(tmp_path / f"{number}.jsonl", sweep(processes=1)) for number in range(2)]
    assert run(["gate", "--calibrate", *paths]) == 3
    (command,) = commands_in(capsys.readouterr().err.splitlines())
    assert pasted_sweep(command).values["replicates"] == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no record in it"),
        ("{", "there is no record in it"),
        ("not json\n", "there is no record in it"),
        ('{"schema_version": 99}\n', "schema version 99"),
    ],
)
def test_a_candidate_without_a_record_is_bad_input(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write(tmp_path / "a.jsonl", sweep())
    bad = tmp_path / "b.jsonl"
    bad.write_text(content)
    assert run(["gate", base, str(bad)]) == 2
    assert message in capsys.readouterr().err
    assert run(["gate", base, str(tmp_path / "none.jsonl")]) == 2


@pytest.mark.parametrize("damage", ["torn", "twice", "text", "nan", "huge"])
def test_records_that_cannot_be_believed_never_pass(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write(tmp_path / "a.jsonl", sweep())
    lines = Path(base).read_text(encoding="utf-8").splitlines()
    values = json.loads(lines[0])
    if damage == "torn":
        lines[-1] = lines[-1][:50]
    elif damage == "twice":
        lines.append(lines[0])
    else:
        value = {"text": "1.0", "nan": float("nan"), "huge": 1e300}[damage]
        values["steps"]["step_time_s"] = [value] * len(values["steps"]["step_time_s"])
        lines[0] = json.dumps(values)
    bad = tmp_path / "b.jsonl"
    bad.write_text("\n".join(lines) + ("" if damage == "torn" else "\n"))
    code, report = gate([base, str(bad)], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert report["notes"]


def test_bad_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", sweep())
    for option, value in (
        ("--tolerance-time", "-1%"),
        ("--on-undecided", "ignore"),
        ("--metrics", "speed"),
        ("--junit", str(tmp_path)),
    ):
        assert run(["gate", path, path, option, value]) == 2
        assert option in capsys.readouterr().err


def test_every_output_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, slow = write(tmp_path / "a.jsonl", sweep()), write(tmp_path / "b.jsonl", sweep(slower=1.5))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    files = {name: tmp_path / "deep" / name for name in ("j.xml", "m.md", "q.json")}
    options = ["--junit", str(files["j.xml"]), "--markdown", str(files["m.md"]), "--code-quality", str(files["q.json"])]
    assert run(["gate", base, slow, *options]) == 1
    captured = capsys.readouterr()
    assert "regression" in captured.out
    assert "::error title=vnbench gate::" in captured.err
    assert summary.read_text() == "before\n" + files["m.md"].read_text()
    assert "<failure" in files["j.xml"].read_text()
    assert json.loads(files["q.json"].read_text())


def test_a_folder_of_sweeps_is_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    records = sweep()
    write(folder / "1.jsonl", records[:7])
    write(folder / "2.jsonl", records[7:])
    assert gate([write(tmp_path / "a.jsonl", records), str(folder)], capsys)[0] == 0
    (tmp_path / "empty").mkdir()
    assert run(["gate", str(folder), str(tmp_path / "empty")]) == 2


def test_sweeps_of_one_definition_are_told_apart_by_their_files_and_a_copy_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.jsonl", later(sweep(slower=1 + 0.001 * number), number))
    candidate = write(tmp_path / "a.jsonl", later(sweep(slower=1.1), 9))
    code, report = gate([str(folder), candidate], capsys)
    assert (code, report["outcome"], report["notes"]) == (1, "regression", [])
    (row,) = (row for row in report["rows"] if row["spec_id"] == "all")
    assert row["num_processes"] == [15, 5]
    (folder / "copy.jsonl").write_text((folder / "0.jsonl").read_text())
    code, report = gate([str(folder), candidate], capsys)
    assert any("occurs more than once" in note for note in report["notes"])


def test_every_update_adds_to_the_history_that_tells_a_slow_sweep_from_a_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    slow = write(tmp_path / "slow.jsonl", later(sweep(slower=1.1), 9))
    for number in range(4):
        path = write(tmp_path / f"{number}.jsonl", later(sweep(slower=1 + 0.001 * number), number))
        assert gate([str(baseline), path, "--update"], capsys)[0] == 0
        outcome = gate([str(baseline), slow], capsys)[1]["outcome"]
        assert outcome == ("undecided" if number < 2 else "regression")
    before = baseline.read_text()
    gate([str(baseline), path, "--update"], capsys)
    assert baseline.read_text() == before, "a sweep counts once"
    (device,) = json.loads(before)["devices"].values()
    assert [len(level) for level in device["sweeps"]] == [4]
    assert gate([str(baseline), slow, "--update"], capsys)[0] == 0
    (device,) = json.loads(baseline.read_text())["devices"].values()
    assert [len(level) for level in device["sweeps"]] == [4, 1], "a changed time begins a new level"


def test_an_update_makes_a_baseline_that_the_same_records_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate, baseline = write(tmp_path / "b.jsonl", sweep()), tmp_path / "baseline.json"
    assert gate([str(baseline), candidate, "--update"], capsys)[0] == 0
    code, report = gate([str(baseline), candidate], capsys)
    assert (code, report["outcome"]) == (0, "pass")
    document = json.loads(baseline.read_text())
    assert list(document["devices"]) == [factory.CPU_ENVIRONMENT["device_name"]]
    code, report = gate([str(baseline), write(tmp_path / "c.jsonl", sweep(slower=1.5))], capsys)
    assert (code, report["outcome"]) == (1, "regression")


def test_a_baseline_file_keeps_how_its_peaks_were_counted_and_an_update_counts_them_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = {
        instrument: factory.record_of(
            spec := factory.memory_spec(factory.training_spec()),
            memory=factory.reading_of(spec, peak_bytes=peak, instrument=instrument),
        )
        for instrument, peak in (("live-tensor-tracker", 2000), ("live-tensors", 1000))
    }
    old, new = (write(tmp_path / f"{name}.jsonl", [trial]) for name, trial in trials.items())
    baseline = str(tmp_path / "baseline.json")
    gate([baseline, old, "--update"], capsys)
    code, report = gate([baseline, new], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    (row,) = (row for row in report["rows"] if row["metric"] == "memory")
    assert row["reason"].startswith("not comparable: the baseline's instrument also counted the gradients")
    gate([baseline, new, "--update"], capsys)
    assert gate([baseline, new], capsys)[0] == 0


def test_noise_makes_no_difference_in_the_file_and_a_win_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    gate([str(baseline), write(tmp_path / "a.jsonl", sweep()), "--update"], capsys)
    before = baseline.read_text()
    gate([str(baseline), write(tmp_path / "b.jsonl", sweep(slower=1.01)), "--update"], capsys)
    assert baseline.read_text() == before
    faster = write(tmp_path / "c.jsonl", sweep(slower=0.5))
    assert run(["gate", str(baseline), faster]) == 0
    assert "write it into the baseline with --update" in capsys.readouterr().out
    gate([str(baseline), faster, "--update"], capsys)
    assert baseline.read_text() != before
    assert gate([str(baseline), faster], capsys)[0] == 0


def test_an_update_keeps_other_devices_and_what_the_candidate_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, records = tmp_path / "baseline.json", sweep()
    other = {"device_name": "another", "torch_version": "2.13.0+cpu"}
    for path in (
        write(tmp_path / "a.jsonl", records),
        write(tmp_path / "b.jsonl", sweep(environment=other)[:-1]),
        write(tmp_path / "c.jsonl", records[:5]),
    ):
        assert gate([str(baseline), path, "--update"], capsys)[0] == 0
    devices = json.loads(baseline.read_text())["devices"]
    assert set(devices) == {"another", factory.CPU_ENVIRONMENT["device_name"]}
    assert len(devices[factory.CPU_ENVIRONMENT["device_name"]]["configurations"]) == 4


def test_records_are_not_overwritten_by_an_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", sweep())
    before = Path(path).read_text(encoding="utf-8")
    assert run(["gate", path, path, "--update"]) == 2
    assert "records are not overwritten" in capsys.readouterr().err
    assert Path(path).read_text(encoding="utf-8") == before
    assert run(["gate", str(tmp_path / "new.jsonl"), path, "--update"]) == 2
    assert "a baseline file is JSON" in capsys.readouterr().err


def test_a_baseline_of_another_device_serves_what_does_not_depend_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    other = {"device_name": "another", "torch_version": "2.13.0+cpu"}
    gate([str(baseline), write(tmp_path / "b.jsonl", sweep(environment=other)[:-1]), "--update"], capsys)
    candidate = write(tmp_path / "a.jsonl", sweep())
    code, report = gate([str(baseline), candidate], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert "it has no baseline for" in report["notes"][0]
    code, report = gate([str(baseline), candidate, "--metrics", "status,padding,shapes"], capsys)
    assert (code, report["outcome"]) == (0, "pass")


@pytest.mark.parametrize("text", ["{}", "[]", "[", '{"format": "vnbench baseline", "version": 9}', "[" * 100_000])
def test_a_baseline_file_that_is_none_is_bad_input(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate, baseline = write(tmp_path / "b.jsonl", sweep()), tmp_path / "baseline.json"
    baseline.write_text(text)
    assert run(["gate", str(baseline), candidate]) == 2
    assert str(baseline) in capsys.readouterr().err


def test_a_tampered_baseline_file_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    candidate, baseline = write(tmp_path / "b.jsonl", sweep()), tmp_path / "baseline.json"
    gate([str(baseline), candidate, "--update"], capsys)
    document = json.loads(baseline.read_text())
    (device,) = document["devices"].values()
    figure = next(one["figures"]["time"] for one in device["configurations"].values() if "time" in one["figures"])
    changes: list[dict[str, Any]] = [{"value": "fast"}, {"value": -1.0}, {"processes": 0}, {"value": 1e999}]
    changes += [{"value": 1.0, "processes": 10**9}, {"processes": 2, "spread": float("nan")}, {"spread": -1}]
    for change in changes:
        figure.update(change)
        baseline.write_text(json.dumps(document))
        assert run(["gate", str(baseline), candidate]) == 2
        assert "no baseline file" in capsys.readouterr().err


def pytest_benchmark_json(times: dict[str, float], *, cpu: str = "cpu") -> str:
    return json.dumps(
        {
            "machine_info": {"cpu": {"brand_raw": cpu}, "python_version": "3.11.2", "machine": "x86_64"},
            "commit_info": {},
            "benchmarks": [{"fullname": name, "stats": {"median": value}} for name, value in times.items()],
            "version": "5.1.0",
        }
    )


def test_pytest_benchmark_files_are_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, factor in (("a", 1.0), ("b", 1.4)):
        (tmp_path / name).mkdir()
        for number in range(4):
            times = {f"bench.py::test_{one}": factor * (1 + 0.001 * number) for one in "xyz"}
            (tmp_path / name / f"{number}.json").write_text(pytest_benchmark_json(times))
    code, report = gate([str(tmp_path / "a"), str(tmp_path / "b")], capsys)
    assert (code, report["outcome"]) == (1, "regression")
    assert {row["spec_id"] for row in report["rows"]} == {"all", *(f"bench.py::test_{one}" for one in "xyz")}
    assert gate([str(tmp_path / "a"), str(tmp_path / "a")], capsys)[0] == 0
    baseline = tmp_path / "baseline.json"
    assert gate([str(baseline), str(tmp_path / "a"), "--update"], capsys)[0] == 0
    assert gate([str(baseline), str(tmp_path / "b")], capsys)[0] == 1


def test_pytest_benchmark_files_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "a.json", tmp_path / "b.json"
    good.write_text(pytest_benchmark_json({"x": 1.0}))
    bad.write_text('{"machine_info": {}, "benchmarks": [{"fullname": "x"}]}')
    assert run(["gate", str(good), str(bad)]) == 2
    assert "not what pytest-benchmark writes" in capsys.readouterr().err
    bad.write_text(pytest_benchmark_json({"x": float("nan")}))
    code, report = gate([str(good), str(bad)], capsys)
    assert code == 3
    assert report["notes"]


def test_a_calibration_tells_false_alarms_spreads_and_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write(tmp_path / f"{number}.jsonl", sweep(processes=6)) for number in range(2)]
    assert run(["gate", "--calibrate", *paths]) == 0
    text = capsys.readouterr().out
    assert "2 sweeps of one revision" in text
    assert re.search(r"\d false alarms?, \d\.\d %", text)
    assert "Processes a side to find a slowdown of" in text
    code, report = gate(["--calibrate", *paths, "--detect", "10%"], capsys)
    assert code == 0
    assert report["num_comparisons"] == 1000
    assert report["sweep_spread"] == 0.0
    assert report["processes_one_row"] > 2


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = write(tmp_path / "a.jsonl", sweep(processes=3)), write(tmp_path / "b.jsonl", sweep(processes=6))
    other = {"device_name": "another", "torch_version": "2.13.0+cpu"}
    elsewhere = write(tmp_path / "c.jsonl", sweep(processes=6, environment=other)[:-1])
    for arguments, code, message in (
        ([few], 3, "timed in four processes"),
        ([many, elsewhere], 2, "sweeps of one machine"),
        ([many, "--update"], 2, "updates no baseline"),
        ([many, many], 2, "is named twice"),
        ([many, "--detect", "2"], 2, "--detect"),
    ):
        assert run(["gate", "--calibrate", *arguments]) == code
        assert message in capsys.readouterr().err
    assert run(["gate", many]) == 2
    assert "a gate has two sides" in capsys.readouterr().err


def test_an_update_takes_only_the_metrics_that_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline, candidate = tmp_path / "baseline.json", write(tmp_path / "a.jsonl", sweep())
    gate([str(baseline), candidate, "--update", "--metrics", "status,memory"], capsys)
    assert '"time"' not in baseline.read_text()
    assert '"padding"' not in baseline.read_text()
    _, report = gate([str(baseline), candidate], capsys)
    assert {row["metric"] for row in report["rows"]} == {"status", "memory"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", None),
        ("environment", "a machine"),
        ("started_at", None),
        ("started_at", 5),
        ("started_at", "yesterday"),
    ],
    ids=str,
)
def test_a_record_that_is_none_is_noted_and_never_passes(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write(tmp_path / "a.jsonl", sweep())
    lines = Path(base).read_text(encoding="utf-8").splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {name: value})
    bad = tmp_path / "b.jsonl"
    bad.write_text("\n".join(lines) + "\n")
    code, report = gate([base, str(bad)], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert report["notes"]


def test_text_that_cannot_be_written_and_endless_nesting_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write(tmp_path / "a.jsonl", sweep())
    bad = tmp_path / "b.jsonl"
    lines = Path(base).read_text(encoding="utf-8").splitlines()
    lines[0] = lines[0].replace('"device_name":"', '"device_name":"\\ud800')
    bad.write_text("\n".join([*lines, "[" * 100_000]) + "\n")
    code, report = gate([base, str(bad)], capsys)
    assert (code, report["outcome"]) == (3, "undecided")
    assert len(report["notes"]) == 2


def test_outputs_never_replace_what_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", sweep())
    before = Path(path).read_text(encoding="utf-8")
    for option in ("--junit", "--markdown", "--code-quality"):
        assert run(["gate", path, path, option, path]) == 2
        assert "one of the files to compare" in capsys.readouterr().err
    assert Path(path).read_text(encoding="utf-8") == before


def test_an_update_says_what_got_worse_and_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline, records = tmp_path / "baseline.json", sweep()
    assert run(["gate", str(baseline), write(tmp_path / "a.jsonl", records), "--update"]) == 0
    assert "added" in capsys.readouterr().err
    worse = [*(factory.record_of(one.spec, status="oom", replicate=one.replicate) for one in records[:5]), *records[5:]]
    assert run(["gate", str(baseline), write(tmp_path / "b.jsonl", worse), "--update"]) == 0
    told = capsys.readouterr().err
    assert "got better, 1 worse" in told
    assert "1 configuration in it failed" in told


def stored_run(path: Path, median: float) -> None:
    """Write a run as pytest-benchmark stores it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    benchmark = {"fullname": "bench_a.py::test_a", "stats": {"median": median}}
    machine = {"cpu": {"brand_raw": "A"}, "python_version": "3.13"}
    path.write_text(json.dumps({"machine_info": machine, "benchmarks": [benchmark]}), encoding="utf-8")


def test_the_folder_where_pytest_benchmark_stores_its_runs_stands_for_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / ".benchmarks"
    for number, median in (("0002_b", 0.2), ("0010_c", 0.4), ("0001_a", 0.1)):
        stored_run(runs / "Linux-CPython-3.13-64bit" / f"{number}.json", median)
    base = str(runs / "Linux-CPython-3.13-64bit" / "0001_a.json")
    _, report = gate([base, str(runs)], capsys)
    row = next(row for row in report["rows"] if row["spec_id"] == "bench_a.py::test_a")
    assert (row["baseline"], row["candidate"]) == pytest.approx((0.1, 0.4))
    run(["gate", base, str(runs)])
    assert "0010_c.json" in capsys.readouterr().out


def test_stored_runs_of_several_machines_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / ".benchmarks"
    for machine in ("Linux-1", "Linux-2"):
        stored_run(runs / machine / "0001_a.json", 0.1)
    assert run(["gate", str(runs), str(runs)]) == 2
    told = capsys.readouterr().err
    assert "(Linux-1, Linux-2): it holds runs of several machines; name a run of one of them, as " in told


def test_forecasts_are_compared_exactly_and_changed_operators_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = factory.forecast_record()
    assert record.card is not None
    step = record.card.worst_case
    more = dataclasses.replace(
        step,
        num_kernels=step.num_kernels + 1,
        allocated_bytes=dataclasses.replace(step.allocated_bytes, high=step.allocated_bytes.high + 1),
    )
    operators = {"aten.convolution.default": 39, "aten.native_group_norm.default": 20, "aten.copy_.default": 2}
    card = dataclasses.replace(record.card, canvases=(record.card.canvases[0], more), operators=operators)
    before = write(tmp_path / "a.jsonl", [record])
    after = write(tmp_path / "b.jsonl", [dataclasses.replace(record, card=card)])
    for baseline in (before, str(tmp_path / "baseline.json")):
        if baseline != before:
            assert run(["gate", baseline, before, "--update"]) == 0
        assert run(["gate", baseline, before]) == 0
        capsys.readouterr()
        assert run(["gate", baseline, after, "--json"]) == 1
        rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
        assert {metric for metric, row in rows.items() if row["verdict"] == "worse"} == {"memory", "operators"}
        assert rows["operators"]["reason"].endswith("+2 aten.copy_.default, -1 aten.convolution.default")
        assert rows["moved"]["verdict"] == rows["flop"]["verdict"] == rows["reserved"]["verdict"] == "same"
