from __future__ import annotations

import dataclasses
import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory

from vnbench.cli.app import run
from vnbench.records.record import TrialRecord


def sweep(number: int, *, slower: float = 1.0, device: str | None = None, rows: int = 3) -> list[TrialRecord]:
    """Return the trials of revision ``number``: some configurations in three processes that differ by 1 %."""
    noise = random.Random(number)
    changes = ({}, {"precision": "bf16"}, {"sampler": "bucketed"})[:rows]
    specs = [factory.training_spec(**({"batch_size": 2} | one)) for one in changes]
    return [
        of_revision(
            factory.measured_training_record(spec, replicate=process),
            number,
            factor=slower * noise.gauss(1, 0.01),
            device=device,
        )
        for spec in specs
        for process in range(3)
    ]


def of_revision(record: TrialRecord, number: int, *, factor: float, device: str | None) -> TrialRecord:
    assert record.steps is not None
    times = tuple(factor * seconds for seconds in record.steps["step_time_s"])
    environment: Any = dict(record.environment) | {"revision": f"{number:012x}"}
    if device is not None:
        environment["device_name"] = device
    return dataclasses.replace(
        record,
        steps=dict(record.steps) | {"step_time_s": times},
        environment=environment,
        started_at=f"2026-10-{number + 1:02}T00:00:00+00:00",
    )


def write(folder: Path, name: str, records: Sequence[TrialRecord]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(f"{one.to_json()}\n" for one in records), encoding="utf-8")


def write_step(folder: Path, *, device: str | None = None, name: str = "") -> None:
    for number in range(14):
        write(folder, f"{name}{number:02}", sweep(number, slower=1.3 if number >= 8 else 1.0, device=device))


def history(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["gate", "--history", str(folder), "--json", *arguments])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def test_a_step_of_all_rows_is_told_and_drawn_at_its_revision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_step(tmp_path / "h")
    code, report = history(tmp_path / "h", capsys, "--out", str(tmp_path / "f"))
    assert code == 0
    (machine,) = report["machines"]
    assert machine["revisions"] == [f"{number:012x}" for number in range(14)]
    (found,) = machine["changes"]
    assert (found["spec_id"], found["metric"]) == ("all", "time")
    assert (found["before_revision"], found["revision"]) == (f"{7:012x}", f"{8:012x}")
    assert found["ratio"] == pytest.approx(1.3, rel=0.02)
    assert {path.name for path in (tmp_path / "f").iterdir()} == {"history.png", "history.svg"}


def test_people_get_a_line_for_each_change_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_step(tmp_path / "h")
    assert run(["gate", "--history", str(tmp_path / "h")]) == 0
    out = capsys.readouterr().out
    assert "all configurations" in out
    assert "Something changed at 1 of 14 revisions." in out


def test_a_row_that_a_revision_lacks_is_noted_and_no_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        write(tmp_path / "h", f"{number:02}", sweep(number, rows=2 if number == 5 else 3))
    code, report = history(tmp_path / "h", capsys)
    assert code == 0
    (machine,) = report["machines"]
    assert machine["changes"] == []
    assert any("1 configuration not timed" in note for note in machine["notes"])


def test_each_machine_has_a_history_and_a_figure_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_step(tmp_path / "h")
    write_step(tmp_path / "h", device="another", name="b")
    code, report = history(tmp_path / "h", capsys, "--out", str(tmp_path / "f"))
    assert code == 0
    assert len({machine["device"] for machine in report["machines"]}) == 2
    assert [len(machine["revisions"]) for machine in report["machines"]] == [14, 14]
    assert {path.stem for path in (tmp_path / "f").iterdir()} == {"history_1", "history_2"}


def test_a_torn_file_is_noted_and_the_rest_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_step(tmp_path / "h")
    with (tmp_path / "h" / "00.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"schema_version": ')
    code, report = history(tmp_path / "h", capsys)
    assert code == 0
    assert any("00.jsonl" in note for note in report["notes"])
    assert len(report["machines"][0]["changes"]) == 1


def test_one_revision_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "h", "a", sweep(0))
    assert history(tmp_path / "h", capsys)[0] == 3


def test_a_copy_of_a_sweep_is_no_second_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(9):
        write(tmp_path / "h", f"{number}", sweep(number))
    write(tmp_path / "h", "copy", sweep(0))
    _, report = history(tmp_path / "h", capsys)
    assert any("9 sweeps" in note for note in report["machines"][0]["notes"])


def test_revisions_follow_each_other_as_their_commits_do_whenever_they_were_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    who = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "--quiet"], check=True)
    commits = []
    for number in range(2):
        subprocess.run([*who, "commit", "--quiet", "--allow-empty", "--message", str(number)], check=True)
        commits.append(subprocess.check_output(["git", "rev-parse", "--short=12", "HEAD"], encoding="utf-8").strip())
    for number, name in enumerate([f"{commits[1]}+0123", commits[0]]):
        records = sweep(number)
        write(
            tmp_path / "h",
            str(number),
            [dataclasses.replace(one, environment=dict(one.environment) | {"revision": name}) for one in records],
        )
    assert history(tmp_path / "h", capsys)[1]["machines"][0]["revisions"] == [commits[0], f"{commits[1]}+0123"]


@pytest.mark.parametrize("beside", [["--calibrate"], ["a.jsonl"], ["--against", "HEAD"], ["--widths", "64:128"]])
def test_what_has_no_place_beside_a_history_is_refused(beside: list[str], tmp_path: Path) -> None:
    write(tmp_path / "h", "a", sweep(0))
    assert run(["gate", "--history", str(tmp_path / "h"), *beside]) == 2


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    assert run(["gate", "--history", str(tmp_path / "none")]) == 2
    assert run(["gate", "--history", str(tmp_path)]) == 2
