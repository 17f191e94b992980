from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from record_factory import record_of, training_spec

from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.results_files import results_files
from vnbench.records.store import ResultsFile, load_all, load_results

ENVIRONMENT = {"device_name": "A", "torch_version": "2.13.0", "revision": "abc"}
RECORDS = tuple(record_of(training_spec(seed=seed), environment=ENVIRONMENT) for seed in range(3))
TEXT = "".join(record.to_json() + "\n" for record in RECORDS)


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode("utf-16"),
        ("\ufeff" + TEXT).encode("utf-16-be"),
        TEXT.encode("utf-8-sig"),
        gzip.compress(TEXT.encode()),
    ],
    ids=["UTF-16", "as PowerShell redirects it", "UTF-16, big end first", "UTF-8 with a mark", "gzip"],
)
def test_results_are_read_as_other_programs_leave_them(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    loaded = load_results(path)
    assert loaded.records == RECORDS
    assert loaded.notes == ()


def test_what_is_compressed_otherwise_is_refused_with_what_unpacks_it(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.xz"
    path.write_bytes(lzma.compress(TEXT.encode()))
    with pytest.raises(
        InputError, match=r"is compressed with xz; only text and gzip are read; run unxz .*r\.jsonl\.xz"
    ):
        load_results(path)
    path.write_bytes(b"\x28\xb5\x2f\xfd and so on")
    with pytest.raises(InputError, match=r"is compressed with zstd; .* run zstd -d"):
        load_results(path)


def test_a_folder_is_not_read_in_part(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", RECORDS[0])
    (tmp_path / "b.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd and so on")
    with pytest.raises(InputError, match=r"b\.jsonl\.zst: is compressed with zstd"):
        load_all([tmp_path])


def test_an_archive_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:-20])
    with pytest.raises(InputError, match="cannot be unpacked"):
        load_results(path)


@pytest.mark.parametrize(
    ("content", "form"), [(TEXT.encode("utf-16"), "UTF-16"), (gzip.compress(b"", mtime=0), "gzip")]
)
def test_no_sweep_writes_into_a_file_of_another_form(content: bytes, form: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"is {form}, which is read but not written"):
        ResultsFile(path, environment=ENVIRONMENT)
    assert path.read_bytes() == content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "results [1]"
    folder.mkdir()
    for name, record in zip("ab", RECORDS, strict=False):
        write(folder / f"{name}.jsonl", record)
    write(folder / "notes.txt", RECORDS[2])
    (folder / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07 resources of a Mac")
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(TEXT.encode()))
    (folder / "c.jsonl.gz").write_bytes(gzip.compress((RECORDS[2].to_json() + "\n").encode()))
    return folder


def write(path: Path, record: TrialRecord) -> None:
    path.write_text(record.to_json() + "\n", encoding="utf-8")


def test_a_folder_stands_for_its_results_each_once_and_for_nothing_hidden(folder: Path) -> None:
    assert [path.name for path in results_files([folder])] == ["a.jsonl", "b.jsonl", "c.jsonl.gz"]
    assert load_all([folder]).records == RECORDS
    assert load_all([folder, folder / "b.jsonl"]).records == RECORDS


def test_a_pattern_that_no_shell_expanded_stands_for_what_matches(folder: Path, tmp_path: Path) -> None:
    assert [path.name for path in results_files([tmp_path / "res*" / "[ab].jsonl"])] == ["a.jsonl", "b.jsonl"]
    assert [path.name for path in results_files([tmp_path / "**" / "*.jsonl"])] == ["a.jsonl", "b.jsonl"]
    with pytest.raises(InputError, match=r"x\*\.jsonl: no file matches this pattern"):
        results_files([folder / "x*.jsonl"])


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no results file in this folder"):
        results_files([tmp_path])


@pytest.mark.parametrize(("named", "files"), [("", "a.jsonl b.jsonl c.jsonl.gz"), ("*.jsonl", "a.jsonl b.jsonl")])
def test_commands_take_folders_and_patterns(
    named: str, files: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(folder / named)]) == 0
    whole = capsys.readouterr().out
    assert run(["export", *(str(folder / name) for name in files.split())]) == 0
    assert capsys.readouterr().out == whole


def test_home_is_found_where_no_shell_put_it_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["export", "~/results [1]", "--out", "~/table.csv"]) == 0
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 4
