from __future__ import annotations

import errno
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from vnbench.errors import CorpusError
from vnbench.images.decoding.gray_files import check_header, encode, is_whole, look_at, read_gray, read_mask
from vnbench.images.decoding.gray_tiff import THRESHOLD
from vnbench.images.drawing.raster import draw_example
from vnbench.records.spec.words import IMAGE_FORMATS, ImageFormat

SIZE = (61, 333)
LONG = 4
"""TIFF's type of a number of 32 bits."""
END_BYTES = 12
"""Of the last chunk of a PNG file."""
TIFFS: tuple[ImageFormat, ...] = ("tiff-g4", "tiff-deflate", "tiff-zstd")


@pytest.fixture(scope="module")
def image_HW() -> np.ndarray:
    return draw_example(seed=0, index=1, height=SIZE[0], width=SIZE[1], task="binary")[0]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


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
        assert look_at(path).kind.startswith("16-bit")
        Image.fromarray(image_HW >= THRESHOLD).save(path)
        assert np.array_equal(read_gray(path, expected_size=SIZE), np.where(image_HW >= THRESHOLD, 255, 0))


def test_masks_are_classes_as_they_are(tmp_path: Path) -> None:
    mask_HW = draw_example(seed=0, index=1, height=SIZE[0], width=SIZE[1], task="multiclass")[1]
    path = tmp_path / "mask.png"
    palette = Image.fromarray(mask_HW, mode="L").convert("P")
    palette.putdata(mask_HW.reshape(-1).tolist())
    palette.save(path)
    assert np.array_equal(read_mask(path, expected_size=SIZE), mask_HW)
    Image.fromarray(mask_HW > 0).save(path)
    assert np.array_equal(read_mask(path, expected_size=SIZE), mask_HW > 0)


def test_a_file_of_no_known_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"image\.jp2: is not an image file; supported are \.png, \.tif"):
        look_at(tmp_path / "image.jp2")


@pytest.mark.parametrize(("ending", "content"), [("jpg", "PNG"), ("png", "JPEG"), ("png", "TIFF")])
def test_a_file_is_read_by_its_content_where_its_name_says_another_kind(
    tmp_path: Path, image_HW: np.ndarray, ending: str, content: str
) -> None:
    path = tmp_path / f"image.{ending}"
    Image.fromarray(image_HW).save(path, format=content, quality=100)
    assert look_at(path).kind == f"8-bit {content}" + (" (raw)" if content == "TIFF" else "")
    assert np.abs(read_gray(path, expected_size=SIZE).astype(int) - image_HW).max() <= 4


@pytest.mark.parametrize("is_behind_pixels", [False, True])
def test_a_png_with_a_colour_profile_or_text_of_any_size_is_read(
    tmp_path: Path, image_HW: np.ndarray, is_behind_pixels: bool
) -> None:
    path = tmp_path / "image.png"
    whole = encode(image_HW, "png")
    if is_behind_pixels:
        text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * 3_000_000))
        path.write_bytes(whole[:-END_BYTES] + text + whole[-END_BYTES:])
    else:
        Image.fromarray(image_HW).save(path, icc_profile=bytes(1_500_000))
    header = look_at(path)
    assert (header.height, header.width) == SIZE
    assert np.array_equal(read_gray(path, expected_size=SIZE), image_HW)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorpusError, match=r"image\.png: does not decode"):
        read_gray(path, expected_size=SIZE)


def test_a_header_tells_what_will_be_refused_before_anything_is_decoded(tmp_path: Path, image_HW: np.ndarray) -> None:
    path = tmp_path / "image.tif"
    pages = [Image.fromarray(image_HW)] * 3
    pages[0].save(path, save_all=True, append_images=pages[1:])
    found = look_at(path)
    assert (found.num_pages, found.image_problem) == (3, None)
    check_header(found, path, expected_size=SIZE)
    told = r"image\.tif: has 3 pages; a mask is one page with the class of each"
    with pytest.raises(CorpusError, match=told):
        read_mask(path, expected_size=SIZE)
    with pytest.raises(CorpusError, match=told):
        check_header(found, path, expected_size=SIZE, is_mask=True)
    with pytest.raises(CorpusError, match=r"is 333 x 61 px, its manifest row says 61 x 333 px"):
        check_header(found, path, expected_size=SIZE[::-1])


@pytest.mark.parametrize("shortage", [OSError(errno.EMFILE, "Too many open files"), MemoryError("no room")])
def test_a_shortage_of_the_machine_is_not_told_as_a_fault_of_the_file(
    tmp_path: Path, image_HW: np.ndarray, shortage: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encode(image_HW, "png"))

    def refuse(*_: object) -> None:
        raise shortage

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(type(shortage)):
        read_gray(path, expected_size=SIZE)
