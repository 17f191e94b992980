from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from vnbench.errors import LoaderError
from vnbench.loading.decoded_cache import DecodedCache

SIZES_N2 = np.array([[4, 10], [6, 10], [4, 10], [2, 5]])
"""Of 80, 120, 80 and 20 bytes, image and mask."""


def pixels(index: int, value: int) -> np.ndarray:
    return np.full(SIZES_N2[index], value, dtype=np.uint8)


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_put_is_what_is_got(on_disk: bool, tmp_path: Path) -> None:
    cache = DecodedCache(SIZES_N2, examples=[0, 1, 3], limit_bytes=1000, folder=tmp_path if on_disk else None)
    assert (len(cache), cache.num_filled, cache.num_bytes) == (3, 0, 220)
    assert cache.get(1) is None
    cache.put(1, pixels(1, 7), pixels(1, 2))
    kept = cache.get(1)
    assert kept is not None
    assert np.array_equal(kept[0], pixels(1, 7))
    assert np.array_equal(kept[1], pixels(1, 2))
    assert cache.get(0) is None
    assert cache.num_filled == 1


def test_the_first_examples_that_fit_the_limit_have_room() -> None:
    cache = DecodedCache(SIZES_N2, examples=[0, 1, 2, 3], limit_bytes=200)
    assert (len(cache), cache.num_bytes) == (2, 200)
    cache.put(2, pixels(2, 1), pixels(2, 1))
    assert cache.get(2) is None, "there is no room for it, and that is no error"
    nothing = DecodedCache(SIZES_N2, examples=[0], limit_bytes=79)
    nothing.put(0, pixels(0, 1), pixels(0, 1))
    assert (len(nothing), nothing.num_filled, nothing.get(0)) == (0, 0, None)


def test_a_forked_process_fills_it_for_all() -> None:
    cache = DecodedCache(SIZES_N2, examples=[0, 1], limit_bytes=1000)
    pid = os.fork()
    if pid == 0:
        cache.put(0, pixels(0, 9), pixels(0, 1))
        os._exit(0)
    os.waitpid(pid, 0)
    kept = cache.get(0)
    assert kept is not None
    assert np.array_equal(kept[0], pixels(0, 9))


def test_no_file_is_left_on_the_disk(tmp_path: Path) -> None:
    cache = DecodedCache(SIZES_N2, examples=[0], limit_bytes=1000, folder=tmp_path)
    cache.put(0, pixels(0, 1), pixels(0, 1))
    assert list(tmp_path.iterdir()) == []


def test_room_that_is_not_there_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(LoaderError, match=r"220 B cannot be kept in .*No space left on device"):
        DecodedCache(SIZES_N2, examples=[0, 1, 3], limit_bytes=1000, folder=tmp_path)
    with pytest.raises(LoaderError, match="smaller --cache-limit"):
        DecodedCache(SIZES_N2, examples=[0], limit_bytes=1000, folder=tmp_path / "missing")
