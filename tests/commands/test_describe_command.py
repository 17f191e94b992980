from __future__ import annotations

import json
from pathlib import Path

import pytest

from vnbench.cli.app import run
from vnbench.commands.describe import describe_corpus_files
from vnbench.errors import CorpusError
from vnbench.images.corpus import Corpus
from vnbench.images.gray_files import read_gray


def test_a_description_counts_what_is_there(corpus: Corpus) -> None:
    found = describe_corpus_files(corpus.directory)
    assert found.corpus_id == corpus.corpus_id
    assert (found.num_train, found.num_validation) == (8, 2)
    assert found.formats == (("8-bit PNG", 10),)
    files = list(corpus.directory.rglob("*.png"))
    assert found.num_bytes == sum(path.stat().st_size for path in files)
    shares = []
    for index, (height, width) in enumerate(corpus.sizes_N2.tolist()):
        mask_HW = read_gray(corpus.mask_path(index), expected_size=(height, width))
        shares.append([float((mask_HW == kind).mean()) for kind in range(3)])
    means = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
    assert list(found.class_shares) == pytest.approx(means)
    assert found.foreground_range[1] == pytest.approx(max(1 - share[0] for share in shares))
    bins = found.histogram()
    assert sum(images for _, _, images in bins) == 10
    assert bins[0][0] == corpus.sizes_N2[:, 1].min()
    assert bins[-1][1] == corpus.sizes_N2[:, 1].max()


def test_only_some_masks_of_a_large_corpus_are_decoded(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnbench.commands.describe.MAX_DECODED", 3)
    found = describe_corpus_files(corpus.directory)
    assert found.num_counted == 3
    assert len(found.sizes_N2) == 10


def test_a_file_that_is_not_what_its_row_says_is_named(corpus: Corpus) -> None:
    corpus.image_path(4).write_bytes(corpus.image_path(5).read_bytes())
    with pytest.raises(CorpusError, match=r"000004\.png: is .* px, its manifest row says"):
        describe_corpus_files(corpus.directory)


def test_the_command_tells_it_in_lines_and_as_json(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["corpus", str(corpus.directory), "--describe"]) == 0
    text = capsys.readouterr().out
    assert "10 images in" in text
    assert "files: 10 8-bit PNG" in text
    assert "10 masks): class 1" in text
    assert text.count("#") >= 40
    assert run(["corpus", str(corpus.directory), "--describe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_examples"] == 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--describe", "--widths", "64:96"], "--describe: it writes no images; leave --widths out"),
        (["--widths", "64:96"], "--examples: the number of images is needed"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["corpus", str(tmp_path / "logs"), *arguments]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "logs").exists()


def test_a_folder_that_is_no_corpus_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["corpus", str(tmp_path), "--describe"]) == 2
    assert "there is no such manifest" in " ".join(capsys.readouterr().err.split())
