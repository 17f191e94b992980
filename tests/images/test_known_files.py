from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vnbench.errors import CorpusError
from vnbench.images import known_files
from vnbench.images.known_files import content_digests, look_at_each, unusable_files


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(5):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / f"{index}.txt").write_text(f"content {index}", encoding="utf-8")
    return tmp_path / "files"


@pytest.fixture
def looked_at(root: Path) -> list[str]:
    return []


def names_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def look(root: Path, looked_at: list[str]) -> list[str]:
    """Return the text of each file, and note which of them were read."""

    def read(path: Path) -> str:
        looked_at.append(path.name)
        return path.read_text(encoding="utf-8")

    looked_at.clear()
    found, problems = look_at_each(names_in(root), root=root, kind="texts", look=read)
    assert problems == {}
    return [found[name] for name in names_in(root)]


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files for settled that were just written."""
    monkeypatch.setattr(known_files, "RACY_NS", 0)


def test_a_file_is_looked_at_once_until_it_changes(
    root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    first = look(root, looked_at)
    assert sorted(looked_at) == ["0.txt", "1.txt", "2.txt", "3.txt", "4.txt"]
    assert look(root, looked_at) == first
    assert looked_at == []
    (root / "3.txt").write_text("content 9", encoding="utf-8")
    assert look(root, looked_at)[3] == "content 9"
    assert looked_at == ["3.txt"]


def test_a_file_of_the_same_size_and_time_in_the_place_of_another_is_looked_at(
    root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    for path in root.iterdir():
        os.utime(path, ns=(1, 1))
    look(root, looked_at)
    os.rename(root / "0.txt", root / "x")
    os.rename(root / "1.txt", root / "0.txt")
    os.rename(root / "x", root / "1.txt")
    assert look(root, looked_at)[:2] == ["content 1", "content 0"]


def test_what_was_seen_of_a_file_within_a_tick_of_its_change_is_not_kept(root: Path, looked_at: list[str]) -> None:
    look(root, looked_at)
    look(root, looked_at)
    assert len(looked_at) == 5


def test_a_change_in_the_same_tick_is_seen(root: Path, looked_at: list[str]) -> None:
    path = root / "0.txt"
    look(root, looked_at)
    state = path.stat()
    path.write_text("content 9", encoding="utf-8")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert look(root, looked_at)[0] == "content 9"


def test_a_file_that_changes_while_it_is_read_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)

    def read_and_change(path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        time.sleep(0.02)
        path.write_text("changed", encoding="utf-8")
        return text

    files = ["0.txt"]
    assert look_at_each(files, root=root, kind="texts", look=read_and_change)[0] == {"0.txt": "content 0"}
    assert look_at_each(files, root=root, kind="texts", look=Path.read_text)[0] == {"0.txt": "changed"}


def test_what_is_known_of_other_files_of_the_folder_is_kept(
    root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    look(root, looked_at)
    (root / "0.txt").write_text("content 9", encoding="utf-8")
    look_at_each(["0.txt"], root=root, kind="texts", look=Path.read_text)
    look(root, looked_at)
    assert looked_at == []


def test_progress_tells_of_the_files_that_had_to_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    files, told = names_in(root), []
    content_digests(files[:2], root=root)
    content_digests(files, root=root, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_equal_contents_have_equal_digests(root: Path) -> None:
    (root / "1.txt").write_text("content 0", encoding="utf-8")
    digests = content_digests(names_in(root), root=root)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_files_that_cannot_be_used_are_counted_and_the_first_named(root: Path) -> None:
    def refuse(path: Path) -> str:
        if path.name == "2.txt":
            raise CorpusError(f"{path}: is no image")
        raise PermissionError(13, "Permission denied", str(path))

    _, problems = look_at_each(names_in(root), root=root, kind="texts", look=refuse)
    assert str(unusable_files(root, problems)) == (
        f"{root}: holds 5 files that cannot be used: 0.txt: cannot be read (Permission denied), "
        "1.txt: cannot be read (Permission denied), 2.txt: is no image and 2 more; repair or remove them"
    )


def test_names_that_are_no_text_are_kept_too(root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    os.rename(os.fsencode(root / "0.txt"), os.fsencode(root) + b"/\xe9.txt")
    look(root, looked_at)
    look(root, looked_at)
    assert looked_at == []


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    root: Path, looked_at: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    first = look(root, looked_at)
    assert look(root, looked_at) == first


def test_what_was_seen_before_an_interruption_is_kept(
    root: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    files = names_in(root)

    def interrupted(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look_at_each(files, root=root, kind="texts", look=Path.read_text, on_progress=interrupted)
    look(root, looked_at)
    assert len(looked_at) == 2


@pytest.mark.parametrize("spelt", ["files", "./files", "link", "files/../files"])
def test_a_folder_is_the_same_however_it_is_spelt(
    root: Path, looked_at: list[str], spelt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    (root.parent / "link").symlink_to(root, target_is_directory=True)
    monkeypatch.chdir(root.parent)
    look(root, looked_at)
    look(Path(spelt), looked_at)
    assert looked_at == []
    monkeypatch.chdir(root)
    look(Path("."), looked_at)
    assert looked_at == []
