"""Drawing an example of the mean size compared with encoding it, and reading the sizes of ten thousand files.

Run with: pytest benchmarks/suites/bench_corpus.py --benchmark-only
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.images.decoding.gray_png import encode_image, encode_mask
from vnbench.images.drawing.raster import draw_example
from vnbench.images.folder import read_sizes

MEAN_SIZE = (560, 8000)
"""Height and width in pixels."""

NUM_FILES = 10_000


def test_draw_the_mean_example(benchmark: BenchmarkFixture) -> None:
    image_HW, _ = benchmark(draw_example, seed=0, index=0, height=MEAN_SIZE[0], width=MEAN_SIZE[1], task="multiclass")
    assert image_HW.shape == MEAN_SIZE


@pytest.mark.parametrize("file", ["image", "mask"])
def test_encode_the_mean_example(benchmark: BenchmarkFixture, file: str) -> None:
    image_HW, mask_HW = draw_example(seed=0, index=0, height=MEAN_SIZE[0], width=MEAN_SIZE[1], task="multiclass")
    if file == "image":
        benchmark(encode_image, image_HW)
    else:
        benchmark(encode_mask, mask_HW)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of ten thousand links to one file, because only headers are read."""
    folder = tmp_path_factory.mktemp("archive")
    first = folder / "first.png"
    first.write_bytes(encode_image(np.zeros((64, 320), dtype=np.uint8)))
    for index in range(NUM_FILES - 1):
        (folder / f"{index:05d}.png").hardlink_to(first)
    return folder


@pytest.mark.parametrize("is_known", [False, True], ids=["from headers", "from the cache"])
def test_sizes_of_ten_thousand_files(
    benchmark: BenchmarkFixture,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def forget() -> None:
        for path in tmp_path.rglob("*.json"):
            if not is_known:
                path.unlink()

    read_sizes(archive)
    sizes_N2 = benchmark.pedantic(read_sizes, args=(archive,), setup=forget, rounds=3)
    assert len(sizes_N2) == NUM_FILES
