from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from vnbench.errors import CorpusError
from vnbench.images.drawing.raster import draw_example
from vnbench.images.gray_files import describe_file, encode, is_whole, read_gray, read_mask, read_size
from vnbench.images.gray_tiff import THRESHOLD
from vnbench.records.spec.words import IMAGE_FORMATS, ImageFormat

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


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_colours_and_sixteen_bits_become_gray(tmp_path: Path, image_HW: np.ndarray, ending: str) -> None:
    path = tmp_path / f"image.{ending}"
    Image.fromarray(np.stack([image_HW] * 3, axis=-1)).save(path, quality=100)
    difference = np.abs(read_gray(path, expected_size=SIZE).astype(int) - image_HW)
    assert difference.max() <= (4 if ending == "jpg" else 0)
    if ending != "jpg":
        Image.fromarray(image_HW.astype(np.uint16) * 256 + 255).save(path)
        assert np.array_equal(read_gray(path, expected_size=SIZE), image_HW)
        assert describe_file(path, expected_size=SIZE).startswith("16-bit")
        Image.fromarray(image_HW >= THRESHOLD).save(path)
        assert np.array_equal(read_gray(path, expected_size=SIZE), np.where(image_HW >= THRESHOLD, 255, 0))


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "F"])
def test_pixels_of_another_kind_are_named(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tif"
    Image.new(mode, SIZE[::-1]).save(path)
    with pytest.raises(CorpusError, match=rf"image\.tif: has pixels of mode '{mode}'; 1, L, I;16, I;16B, RGB are read"):
        read_gray(path, expected_size=SIZE)


def test_masks_are_classes_as_they_are(tmp_path: Path) -> None:
    mask_HW = draw_example(seed=0, index=1, height=SIZE[0], width=SIZE[1], task="multiclass")[1]
    path = tmp_path / "mask.png"
    palette = Image.fromarray(mask_HW, mode="L").convert("P")
    palette.putdata(mask_HW.reshape(-1).tolist())
    palette.save(path)
    assert np.array_equal(read_mask(path, expected_size=SIZE), mask_HW)
    Image.fromarray(mask_HW > 0).save(path)
    assert np.array_equal(read_mask(path, expected_size=SIZE), mask_HW > 0)
    Image.new("RGB", SIZE[::-1]).save(path)
    with pytest.raises(CorpusError, match="has pixels of mode 'RGB'; L, P, 1 are read"):
        read_mask(path, expected_size=SIZE)


def test_a_file_of_no_known_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"image\.bmp: is no image file; \.png, \.tif"):
        read_size(tmp_path / "image.bmp")
