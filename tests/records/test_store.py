from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from record_factory import record_of, training_spec

from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.store import ResultsFile, load_all, load_results

ENVIRONMENT = {"device_name": "A", "torch_version": "2.13.0", "revision": "abc"}


def record(seed: int) -> TrialRecord:
    return record_of(training_spec(seed=seed), environment=ENVIRONMENT)


def write(path: Path, count: int) -> list[TrialRecord]:
    records = [record(seed) for seed in range(count)]
    with ResultsFile(path, environment=ENVIRONMENT) as results:
        for item in records:
            results.append(item)
    return records


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    records = write(tmp_path / "new" / "folder" / "r.jsonl", 3)
    loaded = load_results(tmp_path / "new" / "folder" / "r.jsonl")
    assert list(loaded.records) == records
    assert loaded.notes == ()


def test_a_file_is_taken_up_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    first = write(path, 2)
    with ResultsFile(path, environment=ENVIRONMENT) as results:
        assert list(results.records) == first
        results.append(record(7))
    assert len(load_results(path).records) == 3


def test_a_torn_last_line_is_removed_with_a_message(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:100])
    assert "torn" in load_results(path).notes[0]
    assert path.read_bytes() != whole, "reading repairs nothing"
    with ResultsFile(path, environment=ENVIRONMENT) as results:
        assert "removed" in results.notes[0]
    assert path.read_bytes() == whole


def test_a_whole_record_without_its_line_end_is_kept_and_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    records = write(path, 3)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert list(load_results(path).records) == records
    assert load_results(path).notes == ()
    with ResultsFile(path, environment=ENVIRONMENT) as results:
        assert list(results.records) == records
        results.append(record(3))
    loaded = load_results(path)
    assert (len(loaded.records), loaded.notes) == (4, ())


def test_what_is_whole_but_no_record_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    record = record_of(training_spec(), environment=ENVIRONMENT).to_json().encode() + b"\n"
    path.write_bytes(record + b'{"of": "another program"}')
    with ResultsFile(path, environment=ENVIRONMENT) as results:
        assert "left out" in results.notes[0]
    assert path.read_bytes() == record + b'{"of": "another program"}\n'


def test_a_corrupt_line_in_the_middle_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:50] + b"\n"
    path.write_bytes(b"".join(lines))
    loaded = load_results(path)
    assert len(loaded.records) == 2
    assert f"{path}, line 2" in loaded.notes[0]


def test_a_file_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"schema_version": 99}) + "\n")
    before = path.read_bytes()
    for read in (lambda: load_results(path), lambda: ResultsFile(path, environment=ENVIRONMENT)):
        with pytest.raises(InputError, match="schema version 99"):
            read()
    assert path.read_bytes() == before


@pytest.mark.parametrize("key", ["device_name", "torch_version", "revision"])
def test_a_file_takes_no_records_of_another_machine_or_version(tmp_path: Path, key: str) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1)
    with pytest.raises(InputError, match=f"{key} .* there, other here"):
        ResultsFile(path, environment=ENVIRONMENT | {key: "other"})


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is a folder"):
        ResultsFile(tmp_path, environment=ENVIRONMENT)
    with pytest.raises(InputError, match="this is a folder"):
        load_results(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "r.jsonl", Path("/proc/vnbench/r.jsonl")):
        with pytest.raises(InputError, match=r"--out .* cannot be created"):
            ResultsFile(path, environment=ENVIRONMENT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_write_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1)
    path.chmod(0o444)
    with pytest.raises(InputError, match="cannot be written"):
        ResultsFile(path, environment=ENVIRONMENT)


def test_a_second_sweep_on_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with ResultsFile(path, environment=ENVIRONMENT), pytest.raises(InputError, match="another sweep is writing"):
        ResultsFile(path, environment=ENVIRONMENT)
    ResultsFile(path, environment=ENVIRONMENT).close()


@pytest.mark.processes
def test_the_lock_goes_with_its_holder_even_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    script = (
        "import os, signal, sys; from pathlib import Path; from vnbench.records.store import ResultsFile\n"
        f"results = ResultsFile(Path({str(path)!r}), environment={{}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    ResultsFile(path, environment=ENVIRONMENT).close()


def test_a_record_that_the_disk_does_not_take_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.jsonl"
    write(path, 1)
    before = path.read_bytes()
    real_write = os.write

    def write_half(descriptor: int, content: bytes) -> int:
        if len(content) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(descriptor, bytes(content)[: len(content) // 2 + 1])

    with ResultsFile(path, environment=ENVIRONMENT) as results:
        monkeypatch.setattr("vnbench.records.store.os.write", write_half)
        with pytest.raises(InputError, match="No space left on device"):
            results.append(record(1))
    assert path.read_bytes() == before


def test_records_that_ship_can_be_read_to_the_last_line() -> None:
    shipped = sorted((Path(__file__).parents[2] / "results").glob("*/*.jsonl"))
    for path in shipped:
        if path.name != "sweep.jsonl":
            assert load_results(path).notes == ()


def test_files_without_records_are_refused_together(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"there is no record in it; run vnbench sweep .*empty\.jsonl"):
        load_all([tmp_path / "empty.jsonl"])
    with pytest.raises(InputError, match="No such file"):
        load_all([tmp_path / "missing.jsonl"])


def test_no_command_is_suggested_that_would_write_into_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Something else\n")
    with pytest.raises(InputError, match=r"there is no record in it .*; name a results file"):
        load_all([tmp_path / "README.md"])


def test_a_file_system_without_locks_is_told_once_and_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with ResultsFile(tmp_path / "r.jsonl", environment=ENVIRONMENT) as results:
        (note,) = results.notes
        results.append(record(0))
    assert "its file system has no locks (Function not implemented)" in note
    assert len(load_results(tmp_path / "r.jsonl").records) == 1


@pytest.mark.parametrize("content", [b"secret-token-without-newline", b"# Notes\n", b"\xff\xd8\xff\xe0 a picture"])
def test_a_file_of_something_else_is_neither_cut_nor_written_into(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="data other than records"):
        ResultsFile(path, environment={})
    assert path.read_bytes() == content


@pytest.mark.parametrize("torn", [b'{"schema_version":1,"spec', b'{"sch', b"\0\0\0\0"])
def test_what_a_kill_left_of_a_first_record_is_removed(torn: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(torn)
    with ResultsFile(path, environment={}) as results:
        assert "removed" in results.notes[0]
    assert path.read_bytes() == b""


def test_what_is_no_regular_file_is_neither_read_nor_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/full")):
        with pytest.raises(InputError, match="not a regular file"):
            load_all([path])
        with pytest.raises(InputError, match="not a regular file"):
            ResultsFile(path, environment={})
