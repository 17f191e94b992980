from __future__ import annotations

from pathlib import Path

import pytest

from vnbench.loading.page_cache import cached_ratio, drop_from_page_cache


def test_dropped_files_are_read_from_the_disk_again(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(b"x" * 100_000)
    if cached_ratio(paths) != 1:
        pytest.skip("this file system does not tell what it has in memory")
    drop_from_page_cache(paths)
    if cached_ratio(paths) == 1:
        pytest.skip("this file system lies in memory")
    drop_from_page_cache(paths)
    assert cached_ratio(paths) == 0
    assert [path.read_bytes() for path in paths] == [b"x" * 100_000] * 2
    assert cached_ratio(paths) == 1


def test_no_files_have_no_ratio() -> None:
    assert cached_ratio([]) is None


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        drop_from_page_cache([tmp_path / "missing"])
