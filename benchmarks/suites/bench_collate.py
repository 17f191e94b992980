"""Decoding and collating at real sizes, as a loader worker does for each micro-batch.

Run with: pytest benchmarks/suites/bench_collate.py --benchmark-only
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.images.decoding.gray_files import read_gray
from vnbench.images.decoding.gray_png import encode_image, encode_mask
from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Example, collate, device_tensors
from vnbench.units import PixelRange

LARGEST = (640, 12_800)
RAGGED = SizeDistribution(widths=PixelRange(start=3_200, stop=12_800), heights=PixelRange(start=480, stop=640))


def draw(size: tuple[int, int], *, index: int = 0) -> Example:
    return draw_example(seed=0, index=index, height=size[0], width=size[1], task="multiclass")


@pytest.mark.parametrize("file", ["image", "mask"])
def test_decode_the_largest(benchmark: BenchmarkFixture, tmp_path: Path, file: str) -> None:
    image_HW, mask_HW = draw(LARGEST)
    path = tmp_path / "file.png"
    path.write_bytes(encode_image(image_HW) if file == "image" else encode_mask(mask_HW))
    pixels_HW = benchmark(read_gray, path, expected_size=LARGEST)
    assert pixels_HW.shape == LARGEST


def test_draw_the_largest(benchmark: BenchmarkFixture) -> None:
    benchmark(draw, LARGEST)


def test_encode_the_largest_image(benchmark: BenchmarkFixture) -> None:
    benchmark(encode_image, draw(LARGEST)[0])


def test_encode_the_largest_mask(benchmark: BenchmarkFixture) -> None:
    benchmark(encode_mask, draw(LARGEST)[1])


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_collate_the_worst_case(benchmark: BenchmarkFixture, batch_size: int) -> None:
    batch = benchmark(collate, [draw(LARGEST)] * batch_size)
    assert batch.images_BHW.shape == (batch_size, *LARGEST)


@pytest.mark.parametrize("batch_size", [4, 16])
def test_collate_ragged(benchmark: BenchmarkFixture, batch_size: int) -> None:
    sizes = draw_sizes(RAGGED, batch_size, seed=0).tolist()
    examples = [draw((height, width), index=index) for index, (height, width) in enumerate(sizes)]
    batch = benchmark(collate, examples)
    assert len(batch.sizes_B2) == batch_size


def test_widen_the_worst_case(benchmark: BenchmarkFixture) -> None:
    images_BCHW, _, valid_BHW = benchmark(device_tensors, collate([draw(LARGEST)]))
    assert images_BCHW.shape == (1, 1, *LARGEST)
    assert np.all(valid_BHW.numpy())
