from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vnbench.errors import InputError
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.folder import read_sizes
from vnbench.images.manifest import COLUMNS


def test_corpus_id_tells_corpora_apart_and_not_directories(built: Corpus, corpus: Corpus) -> None:
    assert corpus.directory != built.directory
    assert corpus.corpus_id == built.corpus_id
    assert corpus.task == "multiclass"
    facts = json.loads((corpus.directory / "corpus.json").read_text())
    (corpus.directory / "corpus.json").write_text(json.dumps(facts | {"seed": 8}))
    assert load_corpus(corpus.directory).corpus_id != built.corpus_id


def test_drawn_corpora_are_named_by_how_they_are_drawn(built: Corpus) -> None:
    assert built.corpus_id == "f406b2aba75e"


@pytest.fixture
def own(corpus: Corpus) -> Path:
    """A folder with a manifest of somebody's own files: nothing says how they were made."""
    (corpus.directory / "corpus.json").unlink()
    return corpus.directory


@pytest.mark.parametrize("facts", [None, {"task": "multiclass"}])
@pytest.mark.parametrize("name", ["images/000003.png", "masks/000003.png"])
def test_other_pixels_in_a_file_of_the_same_name_size_and_time_make_another_corpus(
    own: Path, name: str, facts: object
) -> None:
    if facts is not None:
        (own / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")
    before, state, content = load_corpus(own).corpus_id, (own / name).stat(), (own / name).read_bytes()
    (own / name).write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    os.utime(own / name, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load_corpus(own).corpus_id != before
    (own / name).write_bytes(content)
    assert load_corpus(own).corpus_id == before


def test_equal_files_are_one_corpus_wherever_and_however_fresh_they_lie(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own, tmp_path / "checkout", copy_function=shutil.copyfile)
    assert load_corpus(tmp_path / "checkout").corpus_id == load_corpus(own).corpus_id


def test_a_copy_by_way_of_macos_is_the_same_corpus(own: Path, tmp_path: Path) -> None:
    ids = []
    for form in ("NFC", "NFD"):
        copy = Path(shutil.copytree(own, tmp_path / form))
        name = unicodedata.normalize(form, "images/forêt-vidéo.png")
        (copy / "images" / "000003.png").rename(copy / name)
        manifest = copy / "manifest.csv"
        manifest.write_bytes(manifest.read_bytes().replace(b"images/000003.png", name.encode()))
        ids.append(load_corpus(copy).corpus_id)
    assert ids[0] == ids[1]


def test_the_same_page_in_another_coding_makes_another_corpus(tmp_path: Path) -> None:
    page_HW = np.random.default_rng(0).integers(0, 2, (40, 90), dtype=np.uint8) * 255
    for name, coding in (("a", "group4"), ("b", "tiff_adobe_deflate")):
        for index in range(3):
            for folder in ("images", "masks"):
                (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(page_HW)
            image = image.convert("1") if coding == "group4" else image
            image.save(tmp_path / name / "images" / f"{index}.tif", compression=coding)
            Image.fromarray(page_HW // 255).save(tmp_path / name / "masks" / f"{index}.png")
    assert load_corpus(tmp_path / "a").corpus_id != load_corpus(tmp_path / "b").corpus_id


def test_a_file_of_a_manifest_that_cannot_be_read_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digests_of(file: object, name: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(hashlib, "file_digest", digests_of)
    with pytest.raises(InputError, match=r"holds 20 files that cannot be used: images/000000\.png: cannot be read"):
        load_corpus(own)


def test_corpus_without_facts_has_no_task(corpus: Corpus) -> None:
    (corpus.directory / "corpus.json").unlink()
    assert load_corpus(str(corpus.directory)).task is None


def test_manifest_may_have_other_columns_another_order_and_a_byte_order_mark(built: Corpus, corpus: Corpus) -> None:
    manifest = corpus.directory / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with manifest.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["well", *reversed(COLUMNS)])
        writer.writeheader()
        writer.writerows([row | {"well": "A-1, north"} for row in rows])
    assert load_corpus(corpus.directory).corpus_id == built.corpus_id


def test_a_manifest_written_on_windows_names_the_same_files(corpus: Corpus) -> None:
    manifest = corpus.directory / "manifest.csv"
    text = manifest.read_text().replace("images/", "images\\").replace("masks/", "masks\\")
    manifest.write_text(text.replace("\n", "\r\n"), newline="")
    assert load_corpus(corpus.directory).corpus_id == corpus.corpus_id
    odd = corpus.directory / "images\\000001.png"
    odd.write_bytes(corpus.image_path(1).read_bytes())
    assert load_corpus(corpus.directory).image_files[:2] == ("images/000000.png", "images\\000001.png")


def test_arrays_of_a_corpus_are_read_only(built: Corpus) -> None:
    for array in (built.sizes_N2, built.is_train):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


Edit = Callable[[list[str]], list[str]]


def replace_in_line(number: int, old: str, new: str) -> Edit:
    def edit(lines: list[str]) -> list[str]:
        assert old in lines[number - 1]
        return [*lines[: number - 1], lines[number - 1].replace(old, new, 1), *lines[number:]]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replace_in_line(1, "mask", "label"), "line 1: .* column mask is missing"),
        (replace_in_line(1, "width", "wide"), "line 1: .* column width is needed"),
        (replace_in_line(3, "train", "test"), "line 3: split='test': a split is train or validation"),
        (replace_in_line(3, "1,", "7,"), "line 3: index='7': .* this one is 1"),
        (replace_in_line(3, "images/000001.png", "/images/1.png"), "line 3: image='/images/1.png': .* relative"),
        (replace_in_line(3, "images/000001.png", "C:\\1.png"), r"line 3: image='C:\\\\1.png': .* relative"),
        (replace_in_line(3, "images/000001.png", r"\images\1.png"), "line 3: .* relative"),
        (replace_in_line(3, "masks/000001.png", ""), "line 3: mask='': .* relative"),
        (replace_in_line(3, "masks/000001.png", "masks/x.png"), "index 1: mask='masks/x.png': there is no file"),
        (replace_in_line(3, "masks/000001.png", "images/000001.png"), "line 3: mask=.*: it is the image of this row"),
        (replace_in_line(3, "masks/000001.png", "./masks/000000.png"), "line 3: mask=.*: line 2 names it too;"),
        (lambda lines: [*lines, lines[1].replace("0,train", "10,train", 1)], "line 12: image=.*: line 2 names it too;"),
        (
            lambda lines: [*lines, lines[1].replace("0,train", "10,validation", 1)],
            "line 12: image=.*: line 2 names it too, for train and not for validation",
        ),
        (lambda lines: lines[:1], "there are no sizes below the header"),
        (lambda lines: [line.replace("train", "validation") for line in lines], "no row of 10 has the split"),
        (lambda lines: ["\0", *lines], "holds zero bytes"),
    ],
)
def test_bad_manifest_is_named_with_its_line(corpus: Corpus, edit: Edit, message: str) -> None:
    manifest = corpus.directory / "manifest.csv"
    manifest.write_text("\n".join(edit(manifest.read_text().splitlines())) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        load_corpus(corpus.directory)
    assert str(manifest) in str(caught.value)


@pytest.mark.parametrize("width", ["0", "-3", "200001", "12.5", "wide", "", "9" * 5000])
def test_absurd_width_in_a_manifest_is_named_with_its_line(corpus: Corpus, width: str) -> None:
    manifest = corpus.directory / "manifest.csv"
    lines = manifest.read_text().splitlines()
    cells = lines[2].split(",")
    lines[2] = ",".join([*cells[:2], width, *cells[3:]])
    manifest.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"manifest\.csv, line 3: width"):
        load_corpus(corpus.directory)


def test_a_manifest_may_be_named_in_capitals(built: Corpus, corpus: Corpus) -> None:
    os.rename(corpus.directory / "manifest.csv", corpus.directory / "Manifest.CSV")
    assert load_corpus(corpus.directory).corpus_id == built.corpus_id
    (corpus.directory / "masks" / "000003.png").unlink()
    with pytest.raises(InputError, match=r"Manifest\.CSV, index 3: .* there is no file"):
        load_corpus(corpus.directory)


def test_a_folder_that_is_named_as_a_manifest_is_told(corpus: Corpus) -> None:
    (corpus.directory / "manifest.csv").unlink()
    (corpus.directory / "manifest.csv").mkdir()
    with pytest.raises(InputError, match=r"manifest\.csv: is a folder, not a manifest"):
        load_corpus(corpus.directory)


@pytest.mark.parametrize("name", ["manifest.csv", "corpus.json"])
def test_a_pipe_in_the_place_of_what_describes_a_corpus_is_told_and_never_opened(corpus: Corpus, name: str) -> None:
    (corpus.directory / name).unlink()
    os.mkfifo(corpus.directory / name)
    with pytest.raises(InputError, match=rf"{name}: is .*a pipe"):
        load_corpus(corpus.directory)


def test_directory_without_manifest_or_images_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no images of a supported format \(\.png"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"task": "ternary"}', "\xff"])
def test_unusable_facts_are_bad_input(corpus: Corpus, text: str) -> None:
    (corpus.directory / "corpus.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"corpus\.json"):
        load_corpus(corpus.directory)


def refuse(path: Path) -> bool:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.parametrize("what", ["is_file", "exists", "is_dir"])
def test_a_folder_that_may_not_be_read_is_bad_input(corpus: Corpus, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, what, refuse)
    if what == "is_dir":
        with pytest.raises(InputError, match=r"--sizes .*: cannot be read \(Permission denied\); make it readable"):
            read_sizes(corpus.directory)
    else:
        with pytest.raises(InputError, match=r"corpus .*: cannot be read \(Permission denied\); make it readable"):
            load_corpus(corpus.directory)


def test_folders_below_that_may_not_be_read_are_bad_input(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) if Path(path).name == "images" else scandir(path))
    with pytest.raises(InputError, match=r"--sizes .*images: cannot be read"):
        read_sizes(corpus.directory)
