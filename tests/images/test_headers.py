from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vnbench.errors import CorpusError, InputError
from vnbench.images import headers
from vnbench.images.corpus import load_corpus
from vnbench.images.decoding.gray_files import read_gray
from vnbench.images.decoding.whole_files import seems_whole
from vnbench.images.headers import read_headers

SIZE = (64, 96)


def page() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8))


def tiles(path: Path) -> None:
    """Write four tiles of 32 x 48 px, without compression."""
    pixels_HW = np.asarray(page())
    parts = [pixels_HW[y : y + 32, x : x + 48].tobytes() for y in (0, 32) for x in (0, 48)]
    start = 8 + 2 + 12 * 9 + 4
    offsets = [start + 32 + sum(map(len, parts[:number])) for number in range(4)]
    tags = [
        (256, 3, 1, 96), (257, 3, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (322, 3, 1, 48), (323, 3, 1, 32), (324, 4, 4, start), (325, 4, 4, start + 16),
    ]  # fmt: skip
    entries = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for tag, kind, count, value in tags
    )
    words = b"".join(value.to_bytes(4, "little") for value in (*offsets, *map(len, parts)))
    path.write_bytes(
        b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + entries + bytes(4) + words + b"".join(parts)
    )


SAVES: dict[str, Callable[[Path], None]] = {
    "plain.png": lambda path: page().save(path),
    "plain.jpg": lambda path: page().save(path),
    "progressive.jpg": lambda path: page().save(path, progressive=True),
    "plain.tif": lambda path: page().save(path),
    "deflate.tif": lambda path: page().save(path, compression="tiff_adobe_deflate"),
    "group4.tif": lambda path: page().convert("1").save(path, compression="group4"),
    "tiled.tif": tiles,
}


def problem_of(path: Path) -> str:
    """Return what is told against a file as an image: at its opening, or by its header."""
    try:
        (header,) = read_headers([path.name], root=path.parent)
    except InputError as error:
        return str(error)
    return header.image_problem or ""


def pixel_problem_of(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read_gray(path, expected_size=SIZE)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", SAVES)
def test_a_file_that_ends_too_early_is_told_from_a_whole_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    SAVES[name](path)
    assert seems_whole(path)
    assert problem_of(path) == ""
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    assert re.search("does not decode: .*(ends too early|truncated)", problem_of(path))


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("deflate.tif", {"compression": "tiff_adobe_deflate"}),
        ("lzw.tif", {"compression": "tiff_lzw"}),
        ("big.tif", {"big_tiff": True}),
        ("lossy.webp", {}),
        ("exact.webp", {"lossless": True}),
    ],
)
def test_a_file_that_ends_before_it_can_be_opened_is_told_as_ending_too_early(
    tmp_path: Path, name: str, how: dict[str, Any], part: float
) -> None:
    path = tmp_path / name
    page().save(path, **how)
    os.truncate(path, max(5, int(part * path.stat().st_size)))
    for read in (lambda: problem_of(path), lambda: pixel_problem_of(path)):
        assert re.search("does not decode: .*(ends too early|truncated)", read())


def test_a_file_that_lacks_its_end_alone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    page().save(path)
    path.write_bytes(path.read_bytes()[:-12])
    assert not seems_whole(path)
    assert problem_of(path) == ""


@pytest.mark.parametrize(("name", "kind"), [("plain.bmp", "BMP"), ("plain.webp", "WEBP"), ("plain.gif", "GIF")])
def test_formats_that_say_their_length_or_end_are_known_by_it(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    page().save(path, format=kind)
    assert seems_whole(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert not seems_whole(path)


@pytest.mark.parametrize("name", ["plain.png", "plain.jpg", "plain.tif", "group4.tif"])
def test_what_follows_the_end_of_an_image_does_no_harm(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    SAVES[name](path)
    path.write_bytes(path.read_bytes() + b"made by a camera" * 10)
    (header,) = read_headers([name], root=tmp_path)
    assert header.image_problem is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "logs" / name / f"{index}.tif")
    return tmp_path / "logs"


def with_manifest(folder: Path) -> None:
    rows = [f"{index},train,96,64,images/{index}.tif,masks/{index}.tif" for index in range(6)]
    (folder / "manifest.csv").write_text("\n".join(["index,split,width,height,image,mask", *rows]), encoding="utf-8")


@pytest.mark.parametrize("prepare", [lambda folder: None, with_manifest])
def test_every_file_that_headers_tell_is_unusable_is_counted_and_the_first_are_named(
    folder: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(folder)
    for index in range(4):
        Image.fromarray(np.zeros(SIZE, np.float32)).save(folder / "images" / f"{index}.tif")
    pages = [Image.fromarray(np.zeros(SIZE, np.uint8))] * 3
    pages[0].save(folder / "masks" / "5.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError) as caught:
        load_corpus(folder)
    told = str(caught.value)
    assert told.startswith(f"{folder}: holds 5 files that cannot be used: images/0.tif: holds fractions")
    assert "images/2.tif: holds fractions" in told
    assert "images/3.tif" not in told
    assert told.endswith(" and 2 more; repair or remove them")


def test_a_file_of_another_size_than_its_row_says_is_refused_before_anything_starts(folder: Path) -> None:
    with_manifest(folder)
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(folder / "masks" / "2.tif")
    with pytest.raises(InputError, match=r"1 file that .*: masks/2\.tif: is 40 x 30 px, its manifest row says 96 x 64"):
        load_corpus(folder)
    assert len(load_corpus(folder, is_partial=True)) == 6


def test_headers_seen_by_other_rules_do_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnbench.images.known_files.RACY_NS", 0)
    files, read = [f"images/{index}.tif" for index in range(6)], []
    read_headers(files, root=folder)
    right = headers.look_at
    monkeypatch.setattr(headers, "look_at", lambda path: (read.append(path), right(path))[1])
    read_headers(files, root=folder)
    assert read == []
    monkeypatch.setattr(headers, "RULES", headers.RULES + 1)
    read_headers(files, root=folder)
    assert len(read) == len(files)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty, as after a failed download; fetch it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "is a Git LFS pointer, not the image; run git lfs pull",
        ),
        (
            b"\n<!DOCTYPE html><html>404</html>",
            "is a web page, not an image, as servers send for a missing file",
        ),
        (b"no image at all", "does not decode"),
    ],
)
def test_what_lies_in_the_place_of_an_image_is_told_by_what_it_is(folder: Path, content: bytes, told: str) -> None:
    (folder / "images" / "3.tif").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_corpus(folder)
    assert f"holds 1 file that cannot be used: images/3.tif: {told}" in str(caught.value)


def test_a_link_to_nowhere_is_told_with_where_it_leads(folder: Path) -> None:
    (folder / "images" / "3.tif").unlink()
    (folder / "images" / "3.tif").symlink_to("../.git/annex/objects/qF/3.tif")
    with pytest.raises(
        InputError, match=r"images/3\.tif: is a link to \.\./\.git/annex/objects/qF/3\.tif, which does not exist"
    ):
        load_corpus(folder)


@pytest.mark.parametrize("prepare", [lambda folder: None, with_manifest])
def test_files_that_end_too_early_are_told_together_with_those_that_cannot_be_opened(
    folder: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(folder)
    (folder / "images" / "1.tif").write_bytes(b"")
    os.truncate(folder / "masks" / "4.tif", (folder / "masks" / "4.tif").stat().st_size // 2)
    with pytest.raises(InputError, match=r"holds 2 files .*: images/1\.tif: is empty.*, masks/4\.tif: does not decode"):
        load_corpus(folder)


@pytest.mark.processes
def test_a_broken_file_is_told_without_a_warning_of_pillow(folder: Path) -> None:
    path = folder / "images" / "1.tif"
    Image.fromarray(np.eye(*SIZE) > 0).save(path, compression="group4")
    os.truncate(path, 2 * path.stat().st_size // 3)
    code = (
        f"from pathlib import Path; from vnbench.images.corpus import load_corpus; load_corpus(Path({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UserWarning" not in done.stderr
    assert "images/1.tif: does not decode" in done.stderr


@pytest.mark.parametrize("name", ["images/b.png", "masks/b.png"])
def test_a_pipe_or_socket_in_the_place_of_an_image_or_mask_is_told_and_never_opened(tmp_path: Path, name: str) -> None:
    for other in ("images/a.png", "masks/a.png", "images/b.png", "masks/b.png"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        page().save(tmp_path / other)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: is not a regular file \(a pipe\)"):
        load_corpus(tmp_path)
    (tmp_path / name).unlink()
    os.mknod(tmp_path / name, stat.S_IFSOCK | 0o600)
    with pytest.raises(InputError, match=rf"{name}: is not a regular file \(a socket\)"):
        load_corpus(tmp_path)
    lines = [f"0,train,96,64,{name},masks/a.png" if "images" in name else f"0,train,96,64,images/a.png,{name}"]
    (tmp_path / "manifest.csv").write_text("\n".join(["index,split,width,height,image,mask", *lines]))
    with pytest.raises(InputError, match=r"is not a regular file \(a socket\)"):
        load_corpus(tmp_path)
