from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

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
        (replace_in_line(3, "masks/000001.png", ""), "line 3: mask='': .* relative"),
        (replace_in_line(3, "masks/000001.png", "masks/x.png"), "index 1: mask='masks/x.png': there is no file"),
        (lambda lines: lines[:1], "there are no sizes below the header"),
        (lambda lines: [line.replace("train", "validation") for line in lines], "no row of 10 has the split"),
        (lambda lines: ["\0", *lines], "line 1"),
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


def test_directory_without_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.csv: there is no such manifest; name the directory"):
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
    def scandir(path: Path) -> None:
        refuse(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"--sizes .*images: cannot be read"):
        read_sizes(corpus.directory)
