from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_factory import measured_training_record, training_spec

from vnbench.cli.app import run
from vnbench.records.record import TrialRecord
from vnbench.records.shard_file import ShardFile, shard_path, trial_key
from vnbench.records.store import ResultsFile, load_results


def records(*batch_sizes: int, **changes: Any) -> list[TrialRecord]:
    return [
        replace(measured_training_record(training_spec(batch_size=size, micro_batch_size=1)), **changes)
        for size in batch_sizes
    ]


def share(
    path: Path, number: int, own: Sequence[TrialRecord], *, planned: Sequence[TrialRecord] = (), **changes: Any
) -> Path:
    with ResultsFile(path, environment=own[0].environment) as file:
        for record in own:
            file.append(record)
    trials = {trial_key(one.spec_id, one.replicate): f"batch {one.spec.batch_size}" for one in (*own, *planned)}
    replace(ShardFile(number=number, count=2, design="0123", trials=trials), **changes).write(path)
    return path


def merged(paths: Sequence[Path], out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run(["merge", *map(str, paths), "--out", str(out), "--json"])
    told = capsys.readouterr().out
    return code, json.loads(told) if told else {}


def test_the_files_of_all_shares_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = records(1, 2), records(4)
    paths = [share(tmp_path / "a.jsonl", 1, first), share(tmp_path / "b.jsonl", 2, second)]
    code, report = merged(paths, tmp_path / "all.jsonl", capsys)
    assert code == 0
    assert report["missing"] == []
    assert (report["num_records"], report["num_doubles"], report["num_shards"], report["count"]) == (3, 0, 2, 2)
    assert load_results(tmp_path / "all.jsonl").records == (*first, *second)


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = share(tmp_path / "a.jsonl", 1, records(1), planned=records(8))
    code, report = merged([path], tmp_path / "all.jsonl", capsys)
    assert code == 3
    assert report["missing"] == ["all of shard 2/2", "batch 8 (shard 1/2)"]
    assert run(["merge", str(path), "--out", str(tmp_path / "again.jsonl")]) == 3
    assert "missing: batch 8 (shard 1/2)" in capsys.readouterr().err


def test_a_record_that_stands_in_two_files_stands_in_the_new_one_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [share(tmp_path / f"{name}.jsonl", 1, records(1, 2)) for name in "ab"]
    _, report = merged(paths, tmp_path / "all.jsonl", capsys)
    assert (report["num_records"], report["num_doubles"], report["num_shards"]) == (2, 2, 1)


def test_shares_that_do_not_belong_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = share(tmp_path / "a.jsonl", 1, records(1))
    of_another_design = share(tmp_path / "b.jsonl", 2, records(2), design="4567")
    cut_otherwise = share(tmp_path / "c.jsonl", 2, records(2), count=3)
    other = records(2)[0]
    elsewhere = share(
        tmp_path / "d.jsonl", 2, [replace(other, environment={**other.environment, "device_name": "Another"})]
    )
    no_share = tmp_path / "e.jsonl"
    no_share.write_bytes(first.read_bytes())
    torn = share(tmp_path / "f.jsonl", 2, records(2))
    shard_path(torn).write_text("{", encoding="utf-8")
    for path, said in (
        (of_another_design, "a share of another design"),
        (cut_otherwise, "a share of another design"),
        (elsewhere, "on another machine or version"),
        (no_share, "e.shard.json is not beside it"),
        (torn, "does not hold a share"),
        (tmp_path / "nowhere.jsonl", "nowhere.shard.json is not beside it"),
    ):
        assert run(["merge", str(first), str(path), "--out", str(tmp_path / "all.jsonl")]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "all.jsonl").exists()


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = share(tmp_path / "a.jsonl", 1, records(1))
    before = path.read_bytes()
    assert run(["merge", str(path), "--out", str(path)]) == 2
    assert "this file is there already" in " ".join(capsys.readouterr().err.split())
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.processes
def test_two_shares_measure_what_one_sweep_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--widths 64:160 --heights 32:64 --device cpu --examples 10 --subset 2 --precision fp32 --batch-size 1,2"
    options += " --checkpointing none,stages --kind memory --no-plots --time-budget 10h"
    for number in (1, 2):
        assert run(["sweep", *options.split(), "--shard", f"{number}/2", "--out", f"shard-{number}.jsonl"]) == 0
    capsys.readouterr()
    assert run(["merge", "shard-1.jsonl", "shard-2.jsonl", "--out", "all.jsonl", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["missing"] == []
    assert run(["sweep", *options.split(), "--out", "all.jsonl", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["num_trials"] == len(load_results(tmp_path / "all.jsonl").records) == report["num_records"]
