from __future__ import annotations

import os
import tarfile
from pathlib import Path

import campaign
import pytest
from campaign_archive import LIST_OF_LEFT_OUT, write_archive

MIB = 2**20


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "a-gpu"
    for name, content in {
        "campaign.json": b"{}",
        "campaign/steps.txt": b"said",
        "campaign/steps.json": b"{}",
        "steps.jsonl": b"{}\n" * 1000,
        "profiles/micro-1/profile.json": b"{}",
        "profiles/micro-1/memory_snapshot.pickle": os.urandom(1000),
        "profiles/micro-1/profile.png": b"picture",
        "large.jsonl": os.urandom(2 * MIB),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        members = {one.name: opened.extractfile(one) for one in opened.getmembers()}
        return {name: file.read() for name, file in members.items() if file is not None}


def test_records_logs_and_state_are_in_the_archive_and_snapshots_are_named(results: Path, tmp_path: Path) -> None:
    left_out = write_archive(results, tmp_path / "home.tgz", limit_bytes=12 * MIB)
    found = contents(tmp_path / "home.tgz")
    assert left_out == ["profiles/micro-1/memory_snapshot.pickle: 1,000 bytes, a memory snapshot"]
    assert found[f"a-gpu/{LIST_OF_LEFT_OUT}"].decode() == left_out[0] + "\n"
    assert set(found) == {
        f"a-gpu/{name}"
        for name in (
            "campaign.json",
            "campaign/steps.txt",
            "campaign/steps.json",
            "steps.jsonl",
            "large.jsonl",
            "profiles/micro-1/profile.json",
            LIST_OF_LEFT_OUT,
        )
    }
    assert found["a-gpu/steps.jsonl"] == (results / "steps.jsonl").read_bytes()


def test_what_does_not_fit_is_left_out_by_name_and_the_rest_is_there(results: Path, tmp_path: Path) -> None:
    archive = tmp_path / "home.tgz"
    left_out = write_archive(results, archive, limit_bytes=MIB)
    assert archive.stat().st_size <= MIB
    assert left_out[0].startswith("large.jsonl: 2,097,152 bytes, ")
    assert {"a-gpu/steps.jsonl", "a-gpu/campaign.json", "a-gpu/campaign/steps.txt"} <= set(contents(archive))


def test_an_archive_among_the_results_does_not_hold_itself(results: Path) -> None:
    for _ in range(2):
        write_archive(results, results / "home.tgz", limit_bytes=12 * MIB)
    assert "a-gpu/home.tgz" not in contents(results / "home.tgz")
    assert list(results.glob("*.part")) == []


@pytest.mark.processes
def test_a_campaign_renews_its_archive_after_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "home.tgz"
    look = f"import os; assert os.path.exists({str(archive)!r})"
    definition = tmp_path / "c.toml"
    definition.write_text(
        "".join(
            f'[[step]]\nname = \'{name}\'\ncommand = """python -c "{code}" """\nminutes = 1\n'
            for name, code in (("first", "pass"), ("second", look))
        )
    )
    assert campaign.main([str(definition), "--results", str(tmp_path / "r"), "--archive", str(archive)]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("done after") == 2
    assert f"{archive}: " in captured.err
    assert {"r/campaign.json", "r/campaign/first.txt", "r/campaign/second.txt"} <= set(contents(archive))
