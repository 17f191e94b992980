from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vnbench.cli.app import run
from vnbench.commands.corpus import plan_corpus
from vnbench.commands.describe import describe_corpus_files
from vnbench.errors import InputError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_files import read_gray
from vnbench.images.finding.pairs import LeftOut
from vnbench.request.config import complete
from vnbench.request.reading import read_request


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
    with pytest.raises(InputError, match=r"000004\.png: is .* px, its manifest row says"):
        describe_corpus_files(corpus.directory)


def test_the_command_tells_it_in_lines_and_as_json(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["corpus", str(corpus.directory), "--describe"]) == 0
    text = capsys.readouterr().out
    assert "10 images in" in text
    assert "files: 10 8-bit PNG" in text
    assert "10 masks): class 1" in text
    assert text.count("#") >= 40
    assert "split: by its manifest" in text
    assert run(["corpus", str(corpus.directory), "--describe", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["num_examples"] == 10
    assert (values["split_by"], values["left_out"]) == ("manifest", [])


def test_the_command_tells_the_split_and_what_is_not_read(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("manifest.csv", "corpus.json", "images/000003.png"):
        (corpus.directory / name).unlink()
    assert run(["corpus", str(corpus.directory), "--describe"]) == 0
    text = capsys.readouterr().out
    assert "split: every fifth image in the order of widths is for validation\n" in text
    assert "masks without an image, not read: 1 (masks/000003.png)\n" in text
    assert run(["corpus", str(corpus.directory), "--describe", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["split_by"] == "widths"
    assert values["left_out"] == [{"what": "masks without an image", "count": 1, "first_files": ["masks/000003.png"]}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--describe", "--widths", "64:96"], "--describe: it writes no images; leave --widths out"),
        (["--widths", "64:96"], "--examples: the number of images is needed"),
        (
            ["--widths", "64:96", "--examples", "4", "--mask-values", "0,255"],
            "--mask-values: synthetic masks hold the classes of --task; leave --mask-values out, or",
        ),
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
    assert "holds no images of a supported format" in " ".join(capsys.readouterr().err.split())


def own_folder(root: Path, *, numbers: list[int]) -> Path:
    """Write six images with masks; a quarter of each mask holds each of four numbers."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(6):
        size = (32, 64 + index)
        Image.new("L", size[::-1], 200).save(root / "images" / f"{index}.png")
        mask_HW = np.repeat(np.array(numbers, dtype=np.uint8), 8)[:, None].repeat(size[1], axis=1)
        Image.fromarray(mask_HW).save(root / "masks" / f"{index}.png")
    return root


def test_numbers_that_are_no_classes_are_told_with_what_a_sweep_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_folder(tmp_path / "own", numbers=[0, 0, 100, 255])
    assert run(["corpus", str(root), "--describe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = (
        "masks hold 0,100,255, of which 100,255 are not classes; classes are 0 to 2; for a sweep, write --mask-values"
    )
    assert f"{told} 0,100,255" in lines
    assert "foreground 50.0 % (50.0 % to 50.0 % of an image, 6 masks): class 100 25.0 %, class 255 25.0 %" in lines
    options = ["--mask-values", "0,100", "--ignore-value", "255"]
    assert run(["corpus", str(root), "--describe", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "foreground 25.0 % (25.0 % to 25.0 % of an image, 6 masks): class 1 25.0 %; ignored 25.0 %" in lines
    assert not any(line.startswith("masks hold") for line in lines)
    assert run(["corpus", str(root), "--describe", "--classes", "4"]) == 2
    assert "its masks hold 0,100,255, of which 100,255 are not classes; classes are 0 to 3; write" in " ".join(
        capsys.readouterr().err.split()
    )


def test_images_that_are_turned_or_have_more_pages_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_folder(tmp_path / "own", numbers=[0, 1, 2, 1])
    lying = Image.new("L", (32, 64), 200)
    tags = Image.Exif()
    tags[274] = 6
    lying.save(root / "images" / "0.png", exif=tags)
    page = Image.new("L", (65, 32), 200)
    (root / "masks" / "2.png").unlink()
    Image.new("L", (66, 32), 2).save(root / "masks" / "2.jpg")
    (root / "images" / "1.png").unlink()
    page.save(root / "images" / "1.tif", save_all=True, append_images=[page] * 9)
    found = describe_corpus_files(root)
    assert (found.odd_files.num_turned, found.mask_problem) == (1, None)
    (pages,) = found.left_out
    assert pages == LeftOut(what="later pages of image files (9 pages)", count=1, first_files=("images/1.tif",))
    assert run(["corpus", str(root), "--describe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "turned as their EXIF orientation says: 1" in lines
    assert "masks saved as JPEG, which changes pixel values: 1; save them as PNG" in lines
    assert not any(line.startswith("images that EXIF turns") for line in lines)  # their sizes agree
    assert "later pages of image files (9 pages), not read: 1 (images/1.tif)" in lines


def test_doubtful_masks_are_told_by_a_description_and_before_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_folder(tmp_path / "own", numbers=[0, 1, 2, 1])
    for index, orientation, masks_too in ((0, 3, False), (1, 2, True), (2, 4, False)):
        tags = Image.Exif()
        tags[274] = orientation
        for name in ("images", "masks") if masks_too else ("images",):
            path = root / name / f"{index}.png"
            Image.open(path).save(path, exif=tags)
    (root / "masks" / "5.png").unlink()
    Image.new("L", (69, 32), 1).save(root / "masks" / "5.jpg")
    told = [
        "images that EXIF turns, and their masks not: 2; check that they match",
        "masks saved as JPEG, which changes pixel values: 1; save them as PNG",
    ]
    assert run(["corpus", str(root), "--describe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "turned as their EXIF orientation says: 3" in lines
    assert [line for line in lines if line in told] == told
    cpu = {"device_type": "cpu", "num_cpus": 2}
    config = complete(read_request({"images": str(root)}, config_path=None), environment=cpu)
    assert plan_corpus(config).notes == tuple(f"{root}: {line}" for line in told)
