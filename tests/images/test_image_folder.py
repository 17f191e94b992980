from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.images import headers, known_files
from vnbench.images.corpus import load_corpus
from vnbench.images.decoding.gray_files import Header, read_gray, read_mask
from vnbench.images.folder import pair_folder, read_sizes, read_sizes_with_notes

SIZES = ((40, 70), (33, 90), (64, 128), (48, 100), (50, 81), (36, 110))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The files of a test are as fresh as no archive is: what was seen of them would not be kept.
    monkeypatch.setattr(known_files, "RACY_NS", 0)


def save(path: Path, size: tuple[int, int], *, top: int = 256) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, top, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three kinds in two folders, masks in the same places elsewhere."""
    root = tmp_path / "archive"
    endings = ("png", "tif", "jpg")
    for index, size in enumerate(SIZES):
        place = "deep/well" if index % 2 else "."
        save(root / "images" / place / f"{index}.{endings[index % 3]}", size)
        save(root / "masks" / place / f"{index}.png", size, top=3)
    return root


def test_images_and_masks_are_paired_by_their_names(folder: Path) -> None:
    rows, found = pair_folder(folder)
    assert [(row.image, row.mask) for row in rows][:2] == [
        ("images/0.png", "masks/0.png"),
        ("images/2.jpg", "masks/2.png"),
    ]
    assert {(row.height, row.width) for row in rows} == set(SIZES)
    assert [row.split for row in rows].count("validation") == 1
    assert found.split_by == "widths"


def test_masks_may_lie_beside_their_images(tmp_path: Path) -> None:
    for index, size in enumerate(SIZES):
        save(tmp_path / "flat" / f"log {index}.tif", size)
        save(tmp_path / "flat" / f"log {index}_mask.png", size, top=3)
    rows, _ = pair_folder(tmp_path / "flat")
    assert [row.mask for row in rows] == [f"log {index}_mask.png" for index in range(len(SIZES))]


def test_such_a_folder_is_a_corpus_and_equal_ones_are_equal_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(folder)
    assert len(corpus) == len(SIZES)
    os.rename(folder, tmp_path / "elsewhere")
    assert load_corpus(tmp_path / "elsewhere").corpus_id == corpus.corpus_id


def test_half_a_synthetic_corpus_is_not_taken_for_a_folder_of_pairs(folder: Path) -> None:
    (folder / "corpus.json").write_text(json.dumps({"task": "multiclass"}))
    with pytest.raises(InputError, match="there is no such manifest"):
        load_corpus(folder)


def test_headers_are_read_once_until_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    right = headers.look_at

    def count(path: Path) -> Header:
        read.append(path)
        return right(path)

    monkeypatch.setattr(headers, "look_at", count)
    first = pair_folder(folder)
    assert len(read) == 2 * len(SIZES)
    assert pair_folder(folder) == first
    assert len(read) == 2 * len(SIZES)
    for name in ("images/2.jpg", "masks/2.png"):
        save(folder / name, (20, 30))
        os.utime(folder / name, ns=(1, 1))
    changed, _ = pair_folder(folder)
    assert len(read) == 2 * len(SIZES) + 2
    assert (changed[1].height, changed[1].width) == (20, 30)


def test_a_broken_cache_costs_nothing_but_time(folder: Path, tmp_path: Path) -> None:
    first = pair_folder(folder)
    (cache,) = (tmp_path / "cache").rglob("*.json")
    for content in ("", "[1]", '{"x": 3}', '{"images/0.png": [1, 2]}'):
        cache.write_text(content)
        assert pair_folder(folder) == first


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda root: (root / "masks/0.png").unlink(), r"holds 1 file without a mask: images/0\.png; add the masks"),
        (
            lambda root: (root / "masks/0.png").rename(root / "masks/0_curves.png"),
            r"images/0\.png; masks without an image, not read: 1 \(masks/0_curves\.png\); give each mask the",
        ),
        (lambda root: save(root / "masks/0.png", (9, 9)), r"images/0\.png \(70 x 40 px, its mask 9 x 9 px\)"),
        (lambda root: (root / "images/0.png").write_bytes(b"\x89PNG\r\n"), r"images/0\.png: does not decode"),
        (lambda root: os.truncate(root / "masks/0.png", 9), r"masks/0\.png: does not decode"),
    ],
)
def test_files_that_cannot_be_used_are_named(folder: Path, damage: object, told: str) -> None:
    damage(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=told):
        pair_folder(folder)


def test_an_image_that_claims_to_be_enormous_is_refused_unread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "MAX_SIDE_PIXELS", 120)
    with pytest.raises(InputError, match=r"images/2\.jpg: claims 128 x 64 px"):
        pair_folder(folder)


def test_a_folder_without_pairs_says_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"name them images/x\.png and masks/x\.png, or x\.png and x_mask\.png"):
        pair_folder(tmp_path / "empty")


@pytest.mark.parametrize(("inner", "other"), [("images", "masks"), ("images/deep", "masks"), ("masks", "images")])
def test_a_folder_of_images_alone_says_where_the_masks_lie(folder: Path, inner: str, other: str) -> None:
    with pytest.raises(InputError, match=r"without a mask: .*; name .*archive if their ") as caught:
        pair_folder(folder / inner)
    assert caught.value.remedy == f"name {folder} if their {other} lie in {folder / other}"


def test_folders_say_which_examples_are_for_validation(tmp_path: Path) -> None:
    for index, size in enumerate(SIZES):
        split = "train" if index < 4 else "val"
        save(tmp_path / split / "images" / f"{index}.png", size)
        save(tmp_path / split / "masks" / f"{index}.png", size, top=3)
    rows, found = pair_folder(tmp_path)
    assert [row.split for row in rows] == ["train"] * 4 + ["validation"] * 2
    assert found.split_by == "folders"


def test_sizes_come_from_a_folder_as_from_a_file(folder: Path, tmp_path: Path) -> None:
    found = read_sizes(folder)
    assert found.dtype == np.int64
    assert {tuple(size) for size in found.tolist()} == set(SIZES)
    assert read_sizes_with_notes(folder)[1] == (f"{folder}: masks, not counted: {len(SIZES)}",)
    assert len(read_sizes(folder / "images")) == len(SIZES)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no images of a supported format"):
        read_sizes(tmp_path / "none")


def test_a_preview_is_not_taken_for_the_image_of_a_scan(tmp_path: Path) -> None:
    for index, size in enumerate(SIZES):
        save(tmp_path / f"{index}.png", size)
        save(tmp_path / f"{index}.jpg", (size[0] // 2, size[1] // 2))
    with pytest.raises(InputError, match=r"6 files with a mask of another size: 0\.jpg \(35 x 20 px, its mask 70 x"):
        read_sizes(tmp_path)


def test_a_folder_that_is_not_there_is_told_as_that(tmp_path: Path) -> None:
    for read in (pair_folder, load_corpus):
        with pytest.raises(InputError, match="none: there is no such folder"):
            read(tmp_path / "none")
    with pytest.raises(InputError, match=r"none: the file cannot be read \(No such file"):
        read_sizes(tmp_path / "none")


def test_names_that_are_no_utf_8_are_those_of_files_like_others(folder: Path) -> None:
    root = folder.rename(folder.parent / os.fsdecode(b"caf\xe9"))
    for kind in ("images", "masks"):
        (root / kind / "0.png").rename(root / kind / os.fsdecode(b"\xfc.png"))
    corpus = load_corpus(root)
    assert os.fsdecode(b"images/\xfc.png") in corpus.image_files
    assert len(read_sizes(root)) == len(corpus) == len(SIZES)
    (root / "masks" / "2.png").unlink()
    with pytest.raises(InputError, match=r"without a mask: images/2\.jpg"):
        load_corpus(root)


@pytest.mark.parametrize(("image", "mask"), [("0.bmp", "0.gif"), ("0.webp", "0.bmp")])
def test_further_formats_are_read_pixel_by_pixel(folder: Path, image: str, mask: str) -> None:
    mask_HW = np.random.default_rng(0).integers(0, 3, SIZES[0], dtype=np.uint8)
    for kind, name, pixels_HW in (("images", image, mask_HW * 100), ("masks", mask, mask_HW)):
        (folder / kind / "0.png").unlink()
        Image.fromarray(pixels_HW).save(folder / kind / name, lossless=True)
    (first, *_), _ = pair_folder(folder)
    assert (first.image, first.mask) == (f"images/{image}", f"masks/{mask}")
    np.testing.assert_array_equal(read_gray(folder / first.image, expected_size=SIZES[0]), mask_HW * 100)
    np.testing.assert_array_equal(read_mask(folder / first.mask, expected_size=SIZES[0]), mask_HW)


@pytest.mark.processes
def test_the_commands_take_such_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["corpus", str(folder), "--describe"]) == 0
    text = capsys.readouterr().out
    assert "2 8-bit PNG" in text
    assert "2 8-bit JPEG" in text
    plan = ["batching", "--sizes", str(folder), "--batch-size", "2", "--sampler", "random", "--json"]
    assert run(plan) == 0
    assert json.loads(capsys.readouterr().out)["num_examples"] == len(SIZES)
    save(folder / "masks" / "9.png", SIZES[0], top=3)
    assert run(["sweep", "--images", str(folder), "--device", "cpu", "--dry-run"]) == 0
    captured = capsys.readouterr()
    lines = [*captured.out.splitlines(), *captured.err.splitlines()]
    assert lines.count(f"{folder}: masks without an image, not read: 1 (masks/9.png)") == 1
    (told,) = (line for line in lines if line.startswith(f"corpus: {len(SIZES)} images in {folder}, "))
    assert told.endswith(" for validation")
    assert run([*plan, "--examples", "9"]) == 2
    capsys.readouterr()
    assert run(plan) == 0
    assert "masks, not counted: 6" in capsys.readouterr().err
    assert run(["sweep", "--images", str(folder), "--corpus", str(folder), "--dry-run"]) == 2
    assert "--corpus names images too" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("place", ["masks", "labels", "trainannot", "gt/val", "gtFine/train"])
@pytest.mark.parametrize("name", ["a.png", "a_mask.png", "a_gtFine_labelIds.png"])
def test_sizes_of_a_folder_that_is_named_as_one_of_masks_are_counted_and_told(
    tmp_path: Path, place: str, name: str
) -> None:
    save(tmp_path / place / name, SIZES[0])
    sizes_N2, notes = read_sizes_with_notes(tmp_path / place)
    assert sizes_N2.tolist() == [list(SIZES[0])]
    assert notes == (f"{tmp_path / place}: by its name this folder holds masks; their sizes are counted",)


@pytest.mark.parametrize("place", ["images", "logs", "masks/images", "train"])
def test_nothing_is_told_of_the_sizes_of_another_folder(tmp_path: Path, place: str) -> None:
    save(tmp_path / place / "a.png", SIZES[0])
    assert read_sizes_with_notes(tmp_path / place)[1] == ()


def test_masks_of_cityscapes_are_not_counted_as_images(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/train/aachen/a_0_leftImg8bit.png", SIZES[0])
    for kind in ("labelIds", "color"):
        save(tmp_path / f"gtFine/train/aachen/a_0_gtFine_{kind}.png", SIZES[0])
    sizes_N2, notes = read_sizes_with_notes(tmp_path)
    assert len(sizes_N2) == 1
    assert [note.removeprefix(f"{tmp_path}: ") for note in notes] == [
        "masks, not counted: 1",
        "other masks of an image, not read: 1 (gtFine/train/aachen/a_0_gtFine_color.png)",
    ]
