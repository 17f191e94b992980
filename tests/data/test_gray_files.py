from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from vnbench.data.gray_files import encode, is_whole, read_gray
from vnbench.data.gray_tiff import THRESHOLD
from vnbench.data.raster import draw_example
from vnbench.errors import CorpusError
from vnbench.spec import IMAGE_FORMATS, ImageFormat

SIZE = (61, 333)
LONG = 4
"""TIFF's type of a number of 32 bits."""
TIFFS: tuple[ImageFormat, ...] = ("tiff-g4", "tiff-deflate", "tiff-zstd")


@pytest.fixture(scope="module")
def image_HW() -> np.ndarray:
    return draw_example(seed=0, index=1, height=SIZE[0], width=SIZE[1], task="binary")[0]


def path_of(folder: Path, image_format: ImageFormat) -> Path:
    return folder / ("image.png" if image_format == "png" else "image.tif")


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_a_file_is_read_back_as_it_was_written(tmp_path: Path, image_HW: np.ndarray, image_format: ImageFormat) -> None:
    path = path_of(tmp_path, image_format)
    path.write_bytes(encode(image_HW, image_format))
    expected_HW = np.where(image_HW >= THRESHOLD, 255, 0) if image_format == "tiff-g4" else image_HW
    found_HW = read_gray(path, expected_size=SIZE)
    assert found_HW.dtype == np.uint8
    assert np.array_equal(found_HW, expected_HW)
    assert is_whole(path, expected_size=SIZE)
    assert not is_whole(path, expected_size=SIZE[::-1])


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_the_same_image_gives_the_same_bytes(image_HW: np.ndarray, image_format: ImageFormat) -> None:
    assert encode(image_HW, image_format) == encode(image_HW.copy(), image_format)


def test_group_4_files_are_an_eighth_or_less() -> None:
    image_HW = draw_example(seed=0, index=1, height=480, width=3200, task="binary")[0]
    assert len(encode(image_HW, "tiff-g4")) * 8 < len(encode(image_HW, "png"))


@pytest.mark.parametrize("image_format", TIFFS)
def test_a_file_that_ends_too_early_is_not_whole(
    tmp_path: Path, image_HW: np.ndarray, image_format: ImageFormat
) -> None:
    path = path_of(tmp_path, image_format)
    whole = encode(image_HW, image_format)
    for content in (b"", b"II*\0", whole[:8], whole[: len(whole) // 3], whole[:-1]):
        path.write_bytes(content)
        assert not is_whole(path, expected_size=SIZE), len(content)
    for content in (b"", b"text", whole[: len(whole) // 3]):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=r"image\.tif: does not decode: \w+"):
            read_gray(path, expected_size=SIZE)


def test_a_tiff_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    with TiffImageFile(io.BytesIO(encode(np.zeros(SIZE, dtype=np.uint8), "tiff-deflate"))) as image:
        claims = image.tag_v2
        claims.tagtype[256] = claims.tagtype[257] = LONG
        claims[256] = claims[257] = 100_000
        header = io.BytesIO(b"II*\0\x08\0\0\0")
        header.seek(8)
        claims.save(header)
    path.write_bytes(header.getvalue())
    with pytest.raises(CorpusError, match=r"is 100000 x 100000 px, its manifest row says 333 x 61 px"):
        read_gray(path, expected_size=SIZE)
    assert not is_whole(path, expected_size=SIZE)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_tiff_of_other_pixels_is_named(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tif"
    Image.new(mode, SIZE[::-1]).save(path)
    with pytest.raises(CorpusError, match="has pixels of mode"):
        read_gray(path, expected_size=SIZE)
