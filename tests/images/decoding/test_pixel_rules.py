from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from vnbench.errors import CorpusError
from vnbench.images.decoding.gray_files import check_header, look_at, read_gray, read_mask

SIZE = (24, 40)
GRAY_HW = np.arange(SIZE[0] * SIZE[1], dtype=np.int64).reshape(SIZE) // 4 % 256
"""Equal under no turn."""
IMAGE_HW = GRAY_HW.astype(np.uint8)
ORIENTATIONS = range(1, 9)
ORIENTATION_TAG = 274
END_BYTES = 12
"""Of the last chunk of a PNG file."""


def laid(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image as it lies in a file whose orientation shows it upright (EXIF 2.32, table of tag 274)."""
    undone = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undone[orientation](image))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def png(pixels: bytes, *, size: tuple[int, int], depth: int, transparent: int | None = None) -> bytes:
    """Return a gray PNG file whose rows are packed already."""
    height, width = size
    row_bytes = (width * depth + 7) // 8
    rows = b"".join(b"\0" + pixels[i * row_bytes : (i + 1) * row_bytes] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    see_through = b"" if transparent is None else png_chunk(b"tRNS", transparent.to_bytes(2))
    chunks = png_chunk(b"IHDR", header) + see_through + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def tiff(pixels: bytes, *, size: tuple[int, int], bits: int, photometric: int, sample_format: int = 1) -> bytes:
    """Return a gray TIFF file of one strip of packed rows."""
    height, width = size
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(pixels)),
        (339, 3, sample_format),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", 0)
    )


def packed(values: np.ndarray, bits: int) -> bytes:
    """Return rows of numbers of some bits, the most significant first."""
    planes = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["jpg", "png", "png-behind-pixels", "tif"])
def test_images_and_masks_are_turned_upright_whatever_their_format(tmp_path: Path, kind: str, orientation: int) -> None:
    path = tmp_path / f"image.{kind[:3]}"
    lying = Image.fromarray(laid(IMAGE_HW, orientation))
    if kind == "png-behind-pixels":
        buffer = io.BytesIO()
        lying.save(buffer, format="PNG")
        tags = png_chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
        path.write_bytes(buffer.getvalue()[:-END_BYTES] + tags + buffer.getvalue()[-END_BYTES:])
    elif kind == "tif":
        lying.save(path, tiffinfo={ORIENTATION_TAG: orientation})
    else:
        lying.save(path, exif=exif(orientation), quality=100, subsampling=0)
    header = look_at(path)
    assert header.orientation == orientation
    assert (header.height, header.width) == SIZE
    found_HW = read_gray(path, expected_size=SIZE)
    assert np.abs(found_HW.astype(int) - IMAGE_HW).max() <= (24 if kind == "jpg" else 0)
    if kind != "jpg":
        assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)
    if orientation >= 5:
        with pytest.raises(CorpusError, match=r"is 40 x 24 px.*, its manifest row says 24 x 40 px"):
            read_gray(path, expected_size=SIZE[::-1])
        with pytest.raises(CorpusError, match=rf"when rotated by its EXIF orientation {orientation}, its manifest"):
            check_header(look_at(path), path, expected_size=SIZE[::-1])


@pytest.mark.parametrize("tags", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", exif(0), exif(99)])
def test_an_orientation_that_means_nothing_turns_nothing(tmp_path: Path, tags: Any) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(IMAGE_HW).save(path, exif=tags)
    assert look_at(path).orientation == 1
    assert np.array_equal(read_gray(path, expected_size=SIZE), IMAGE_HW)


@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        *(("png", mode) for mode in ("RGB", "RGBA", "LA")),
        *(("tif", mode) for mode in ("RGB", "RGBA", "LA", "CMYK", "YCbCr")),
        *(("jpg", mode) for mode in ("RGB", "CMYK")),
    ],
)
def test_gray_that_is_stored_as_colour_is_read_as_that_gray(tmp_path: Path, ending: str, mode: str) -> None:
    path = tmp_path / f"image.{ending}"
    Image.fromarray(IMAGE_HW).convert("RGB").convert(mode).save(path, quality=100)
    found_HW = read_gray(path, expected_size=SIZE)
    assert np.abs(found_HW.astype(int) - IMAGE_HW).max() <= (24 if ending == "jpg" else mode == "YCbCr")
    assert look_at(path).kind.startswith({"LA": "8-bit with alpha"}.get(mode, mode))


def test_a_palette_is_read_through_its_colours_in_an_image_and_as_its_indices_in_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    image = Image.fromarray(IMAGE_HW, mode="L").convert("P")
    image.putpalette([255 - index for index in range(256) for _ in range(3)])
    image.save(path)
    assert np.array_equal(read_gray(path, expected_size=SIZE), 255 - IMAGE_HW)
    assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)


def test_a_cmyk_jpeg_is_taken_to_be_inverted_only_where_adobe_marked_it(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(IMAGE_HW).convert("RGB").convert("CMYK").save(path, quality=100)
    marked = path.read_bytes()
    start = marked.index(b"\xff\xee")
    assert marked[start + 4 :].startswith(b"Adobe")
    # The same numbers without the marker are ink and not its absence.
    path.write_bytes(marked[:start] + marked[start + 2 + int.from_bytes(marked[start + 2 : start + 4]) :])
    as_ink_HW = np.asarray(Image.fromarray(IMAGE_HW).convert("RGB").convert("CMYK"))
    inverted = Image.fromarray(255 - as_ink_HW, mode="CMYK").convert("L")
    found_HW = read_gray(path, expected_size=SIZE)
    assert np.abs(found_HW.astype(int) - np.asarray(inverted)).max() <= 24


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_parts_of_an_image_are_white_paper(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    image = Image.new("L", SIZE[::-1], 0).convert(mode)
    image.putalpha(Image.fromarray(IMAGE_HW))
    image.save(path)
    assert np.array_equal(read_gray(path, expected_size=SIZE), 255 - IMAGE_HW)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_alpha_channel_that_hides_everything_hides_nothing(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    image = Image.fromarray(IMAGE_HW).convert(mode)
    image.putalpha(0)
    image.save(path)
    assert np.array_equal(read_gray(path, expected_size=SIZE), IMAGE_HW)
    assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)


@pytest.mark.parametrize("transparent", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_gray_of_a_png_is_white_paper(tmp_path: Path, depth: int, transparent: int) -> None:
    path = tmp_path / "image.png"
    most = 2**depth - 1
    values_HW = (GRAY_HW * 257 if depth == 16 else GRAY_HW) % (most + 1)
    shown_HW = values_HW >> 8 if depth == 16 else values_HW * (255 // most)
    path.write_bytes(png(packed(values_HW, depth), size=SIZE, depth=depth, transparent=transparent))
    expected_HW = np.where(values_HW == transparent, 255, shown_HW)
    assert np.array_equal(read_gray(path, expected_size=SIZE), expected_HW)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_white_is_white_whichever_number_a_tiff_has_for_it(tmp_path: Path, bits: int, photometric: int) -> None:
    path = tmp_path / "image.tif"
    values_HW = GRAY_HW * 257 if bits == 16 else GRAY_HW % 2**bits
    pixels = values_HW.astype("<u2").tobytes() if bits == 16 else packed(values_HW, bits)
    path.write_bytes(tiff(pixels, size=SIZE, bits=bits, photometric=photometric))
    shown_HW = values_HW >> 8 if bits == 16 else values_HW * (255 // (2**bits - 1))
    assert np.array_equal(read_gray(path, expected_size=SIZE), shown_HW if photometric else 255 - shown_HW)
    assert look_at(path).kind.startswith(f"{bits}-bit TIFF")


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_mask_holds_its_numbers_whichever_of_them_is_shown_white(tmp_path: Path, bits: int, photometric: int) -> None:
    path = tmp_path / "mask.tif"
    classes_HW = GRAY_HW % 2 ** min(bits, 8)
    pixels = classes_HW.astype("<u2").tobytes() if bits == 16 else packed(classes_HW, bits)
    path.write_bytes(tiff(pixels, size=SIZE, bits=bits, photometric=photometric))
    assert np.array_equal(read_mask(path, expected_size=SIZE), classes_HW)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", None])
def test_true_is_class_1_in_a_mask_that_tifffile_wrote(tmp_path: Path, photometric: Any) -> None:
    path = tmp_path / "mask.tif"
    mask_HW = GRAY_HW % 3 == 0
    tifffile.imwrite(path, mask_HW, photometric=photometric)
    assert np.array_equal(read_mask(path, expected_size=SIZE), mask_HW)


@pytest.mark.parametrize("compression", ["group4", "group3", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_white_is_class_1_in_a_mask_of_fax(tmp_path: Path, compression: str, photometric: int) -> None:
    path = tmp_path / "mask.tif"
    mask_HW = GRAY_HW % 3 == 0
    Image.fromarray(mask_HW).save(path, compression=compression, tiffinfo={262: photometric})
    assert np.array_equal(read_mask(path, expected_size=SIZE), mask_HW)


def test_a_mask_of_one_bit_that_may_mean_either_is_refused_though_the_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    path.write_bytes(tiff(packed(GRAY_HW % 2, 1), size=SIZE, bits=1, photometric=0))
    told = r"mask\.tif: is a 1-bit TIFF in which 0 is white, so .*; save it as PNG"
    with pytest.raises(CorpusError, match=told):
        read_mask(path, expected_size=SIZE)
    with pytest.raises(CorpusError, match=told):
        check_header(look_at(path), path, expected_size=SIZE, is_mask=True)
    assert np.array_equal(read_gray(path, expected_size=SIZE), 255 * (1 - GRAY_HW % 2))


@pytest.mark.parametrize("read", [read_gray, read_mask])
def test_bytes_with_a_sign_are_refused(tmp_path: Path, read: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.where(GRAY_HW % 3 == 0, -1, 2).astype(np.int8))
    told = r"mask\.tif: holds signed 8-bit numbers; save it as unsigned"
    with pytest.raises(CorpusError, match=told):
        read(path, expected_size=SIZE)
    with pytest.raises(CorpusError, match=told):
        check_header(look_at(path), path, expected_size=SIZE, is_mask=read is read_mask)


def test_twelve_bits_become_their_upper_eight(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff(packed(GRAY_HW * 16 + 15, 12), size=SIZE, bits=12, photometric=1))
    assert look_at(path).kind.startswith("12-bit TIFF")
    assert np.array_equal(read_gray(path, expected_size=SIZE), IMAGE_HW)


@pytest.mark.parametrize(
    ("pixels", "bits", "sample_format", "told"),
    [
        (GRAY_HW.astype("<i2"), 16, 2, "holds signed or 32-bit integers, and nothing says which number"),
        (GRAY_HW.astype("<u4"), 32, 1, "holds signed or 32-bit integers"),
        (GRAY_HW.astype("<f4"), 32, 3, "holds fractions, and nothing says which number is white; save it as 8-bit"),
    ],
)
def test_an_image_whose_white_nobody_knows_is_refused_but_a_mask_of_such_numbers_is_read(
    tmp_path: Path, pixels: np.ndarray, bits: int, sample_format: int, told: str
) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff(pixels.tobytes(), size=SIZE, bits=bits, photometric=1, sample_format=sample_format))
    assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)
    with pytest.raises(CorpusError, match=rf"image\.tif: {told}"):
        read_gray(path, expected_size=SIZE)
    with pytest.raises(CorpusError, match=rf"image\.tif: {told}"):
        check_header(look_at(path), path, expected_size=SIZE)


def test_pixels_of_another_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.new("LAB", SIZE[::-1]).save(path)
    with pytest.raises(CorpusError, match=r"image\.tif: has pixels of mode LAB, which is not supported; save it"):
        read_gray(path, expected_size=SIZE)


def test_a_depth_that_is_not_known_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(tiff(GRAY_HW.astype("<f8").tobytes(), size=SIZE, bits=64, photometric=1, sample_format=3))
    with pytest.raises(CorpusError, match=r"image\.tif: has pixels of an unsupported depth or layout; save it"):
        look_at(path)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_masks_of_few_bits_hold_the_numbers_that_were_written(tmp_path: Path, ending: str, depth: int) -> None:
    path = tmp_path / f"mask.{ending}"
    classes_HW = GRAY_HW % 2**depth
    pixels = packed(classes_HW, depth)
    path.write_bytes(
        png(pixels, size=SIZE, depth=depth) if ending == "png" else tiff(pixels, size=SIZE, bits=depth, photometric=1)
    )
    assert look_at(path).kind.startswith(f"{depth}-bit")
    assert np.array_equal(read_mask(path, expected_size=SIZE), classes_HW)
    assert np.array_equal(read_gray(path, expected_size=SIZE), classes_HW * (255 // (2**depth - 1)))


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_a_mask_of_equal_channels_is_its_gray_and_colours_or_transparency_are_refused(
    tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "mask.png"
    mask = Image.fromarray(IMAGE_HW).convert(mode)
    mask.save(path)
    assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)
    if mode != "RGB":
        mask.putalpha(Image.fromarray(IMAGE_HW))
        mask.save(path)
        with pytest.raises(CorpusError, match=r"mask\.png: is partly transparent; save it without"):
            read_mask(path, expected_size=SIZE)
    if mode != "LA":
        Image.new(mode, SIZE[::-1], (7, 0, 0)).save(path)
        with pytest.raises(CorpusError, match=r"mask\.png: holds colours instead of classes; save the number"):
            read_mask(path, expected_size=SIZE)


def test_sixteen_bits_hold_classes_up_to_255(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(GRAY_HW.astype(np.uint16)).save(path)
    assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)
    Image.fromarray((GRAY_HW * 2).astype(np.uint16)).save(path)
    with pytest.raises(CorpusError, match=r"mask\.png: holds numbers from 0 to 478; classes are whole numbers from 0"):
        read_mask(path, expected_size=SIZE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (np.nan, "holds NaN or infinite pixels"),
        (np.inf, "holds NaN or infinite pixels"),
        (-1.0, "holds numbers from -1 to 3; classes are whole numbers"),
        (1e12, r"holds numbers from 0 to 1e\+12; classes are whole numbers"),
        (0.5, r"holds numbers from 0 to 3; classes are whole numbers"),
    ],
)
def test_fractions_that_are_no_classes_are_told_without_a_warning(tmp_path: Path, number: float, told: str) -> None:
    path = tmp_path / "mask.tif"
    classes_HW = (GRAY_HW % 4).astype(np.float32)
    classes_HW[3, 7] = number
    tifffile.imwrite(path, classes_HW)
    with pytest.raises(CorpusError, match=rf"mask\.tif: {told}"):
        read_mask(path, expected_size=SIZE)


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    copies = [Image.fromarray(IMAGE_HW[::step, ::step]) for step in (2, 4)]
    for copy in copies:
        copy.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(IMAGE_HW).save(path, save_all=True, append_images=copies)
    assert look_at(path).num_pages == 1
    assert np.array_equal(read_mask(path, expected_size=SIZE), IMAGE_HW)
    Image.fromarray(IMAGE_HW).save(path, save_all=True, append_images=[Image.fromarray(IMAGE_HW), *copies])
    assert look_at(path).num_pages == 2
    with pytest.raises(CorpusError, match=r"mask\.tif: has 2 pages"):
        read_mask(path, expected_size=SIZE)


def test_the_further_images_of_a_jpeg_are_pages_unless_they_are_previews_or_a_gain_map(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    pages = [Image.fromarray(IMAGE_HW)] * 3
    pages[0].save(path, format="MPO", save_all=True, append_images=pages[1:])
    assert look_at(path).num_pages == 3
    assert np.abs(read_gray(path, expected_size=SIZE).astype(int) - IMAGE_HW).max() <= 64
    listed = path.read_bytes()
    start = listed.index(b"\xff\xe2") + 8
    order = "<" if listed[start : start + 2] == b"II" else ">"
    tag = listed.index(struct.pack(f"{order}HHL", 0xB002, 7, 3 * 16), start)
    entries = start + struct.unpack_from(f"{order}L", listed, tag + 8)[0]
    preview = struct.pack(f"{order}L", 0x010001)
    path.write_bytes(listed[: entries + 16] + preview + listed[entries + 20 :])
    assert look_at(path).num_pages == 2
    path.write_bytes(listed[: start + 8] + bytes(8) + listed[start + 16 :])
    assert look_at(path).num_pages == 1
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description hdrgm:Version="1.0"/></x:xmpmeta>'
    pages[0].save(path, format="MPO", save_all=True, append_images=pages[1:], xmp=xmp)
    assert look_at(path).num_pages == 1
    pages[0].save(path)
    assert look_at(path).num_pages == 1
