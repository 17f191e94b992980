from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vnbench.batching.sizes import SizeDistribution
from vnbench.errors import InputError
from vnbench.images import synthesis
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.decoding.gray_files import read_gray
from vnbench.images.decoding.gray_png import encode_image
from vnbench.images.drawing.raster import Gray, draw_example
from vnbench.images.synthesis import (
    CorpusSpec,
    build_corpus,
    cached_directory,
    estimate_bytes,
    is_complete,
    planned_corpus,
)
from vnbench.records.spec.words import IMAGE_FORMATS, ImageFormat
from vnbench.units import PixelRange

CHANGES: list[dict[str, Any]] = [{"seed": 8}, {"task": "binary"}, {"num_examples": 11}]


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_built_files_are_the_drawings_at_the_sizes_of_the_manifest(corpus_spec: CorpusSpec, built: Corpus) -> None:
    assert np.array_equal(built.sizes_N2, corpus_spec.sizes_N2())
    for index, (height, width) in enumerate(built.sizes_N2.tolist()):
        drawn = draw_example(seed=corpus_spec.seed, index=index, height=height, width=width, task=corpus_spec.task)
        for path, pixels_HW in zip((built.image_path(index), built.mask_path(index)), drawn, strict=True):
            with Image.open(path) as image:
                assert (image.size, image.mode) == ((width, height), "L")
                assert np.array_equal(np.asarray(image), pixels_HW)


def test_example_is_identical_whatever_the_number_of_examples(
    corpus_spec: CorpusSpec, built: Corpus, tmp_path: Path
) -> None:
    smaller = build_corpus(dataclasses.replace(corpus_spec, num_examples=4), tmp_path / "smaller")
    for index in range(4):
        assert smaller.image_path(index).read_bytes() == built.image_path(index).read_bytes()
        assert smaller.mask_path(index).read_bytes() == built.mask_path(index).read_bytes()


def test_sizes_can_be_given_example_by_example(tmp_path: Path) -> None:
    sizes = ((33, 70), (40, 50), (1, 1))
    spec = CorpusSpec(num_examples=3, sizes=sizes, task="binary", seed=0)
    corpus = build_corpus(spec, tmp_path)
    assert [tuple(size) for size in corpus.sizes_N2.tolist()] == list(sizes)
    other = CorpusSpec(num_examples=3, sizes=((33, 70), (40, 50), (1, 2)), task="binary", seed=0)
    assert cached_directory(spec, tmp_path) != cached_directory(other, tmp_path)


@pytest.mark.parametrize(("num_examples", "num_validation"), [(1, 0), (2, 1), (3, 1), (5, 1), (10, 2), (52, 10)])
def test_a_fifth_is_for_validation(tmp_path: Path, num_examples: int, num_validation: int) -> None:
    sizes = tuple((4, 1 + index) for index in range(num_examples))
    corpus = build_corpus(CorpusSpec(num_examples=num_examples, sizes=sizes, task="binary", seed=0), tmp_path)
    assert len(corpus) - len(corpus.train_indices) == num_validation
    assert corpus.is_train[-1], "the widest example is trained on"


def test_both_splits_span_the_widths(corpus_spec: CorpusSpec) -> None:
    sizes_N2 = dataclasses.replace(corpus_spec, num_examples=500).sizes_N2()
    rows = synthesis._plan_rows(sizes_N2)
    for split in ("train", "validation"):
        widths = [row.width for row in rows if row.split == split]
        assert min(widths) < 95
        assert max(widths) > 235
        assert np.mean(widths) == pytest.approx(sizes_N2[:, 1].mean(), rel=0.01)


def test_deleted_and_truncated_files_are_written_again_and_the_others_kept(
    corpus_spec: CorpusSpec, built: Corpus, corpus: Corpus
) -> None:
    kept = [corpus.image_path(0), corpus.mask_path(0)]
    for path in kept:
        os.utime(path, ns=(1, 1))
    corpus.image_path(1).unlink()
    corpus.mask_path(2).unlink()
    corpus.image_path(3).write_bytes(corpus.image_path(3).read_bytes()[:-20])
    corpus.mask_path(4).write_bytes(b"")
    (corpus.directory / "manifest.csv").unlink()
    seen: list[tuple[int, int]] = []
    rebuilt = build_corpus(corpus_spec, corpus.directory, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 10), (8, 10), (9, 10), (10, 10)]
    assert files_of(rebuilt.directory) == files_of(built.directory)
    assert all(path.stat().st_mtime_ns == 1 for path in kept)
    assert rebuilt.corpus_id == built.corpus_id


def test_damaged_manifest_is_written_again(corpus_spec: CorpusSpec, built: Corpus, corpus: Corpus) -> None:
    (corpus.directory / "manifest.csv").write_text("index,split\n")
    assert build_corpus(corpus_spec, corpus.directory).corpus_id == built.corpus_id


def test_interrupted_build_ends_soon_without_manifest_and_is_resumed(
    corpus_spec: CorpusSpec, built: Corpus, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for index in range(1, 10):
        corpus.image_path(index).unlink()
    monkeypatch.setattr(synthesis, "MAX_THREADS", 1)
    numbers, is_cancelled = itertools.count(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_cancelled.set()
            super().shutdown(wait=wait)

    def encode(image_HW: Gray, _: object) -> bytes:
        # All but the first are under way when the interrupt comes.
        assert next(numbers) == 0 or is_cancelled.wait(60)
        return encode_image(image_HW)

    monkeypatch.setattr(synthesis, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(synthesis, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(corpus_spec, corpus.directory, on_progress=interrupt)
    assert len(list(corpus.directory.glob("images/*.png"))) < 5
    assert not (corpus.directory / "manifest.csv").exists()
    assert not list(corpus.directory.rglob("*.part"))
    assert files_of(build_corpus(corpus_spec, corpus.directory).directory) == files_of(built.directory)


def test_parts_of_a_killed_build_are_removed_once_they_are_stale(corpus_spec: CorpusSpec, corpus: Corpus) -> None:
    stale, fresh = (corpus.directory / "images" / f".000001.png.{pid}.part" for pid in (11, 12))
    for part in (stale, fresh):
        part.write_bytes(b"half")
    os.utime(stale, (0, 0))
    corpus.image_path(1).unlink()
    build_corpus(corpus_spec, corpus.directory)
    assert not stale.exists()
    assert fresh.exists(), "another process may be writing it"


@pytest.mark.parametrize("change", CHANGES)
def test_directory_of_another_corpus_is_refused_and_left_alone(
    corpus_spec: CorpusSpec, corpus: Corpus, change: dict[str, object]
) -> None:
    before = files_of(corpus.directory)
    with pytest.raises(InputError, match="holds another corpus"):
        build_corpus(dataclasses.replace(corpus_spec, **change), corpus.directory)
    assert files_of(corpus.directory) == before


def test_images_of_unknown_origin_are_refused(corpus_spec: CorpusSpec, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="holds another corpus"):
        build_corpus(corpus_spec, tmp_path)


def test_directory_that_cannot_be_written_is_bad_input(corpus_spec: CorpusSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"corpus directory .*file: cannot be written .*room for about"):
        build_corpus(corpus_spec, tmp_path / "file")


def test_estimate_is_near_the_bytes_written(tmp_path: Path) -> None:
    sizes = SizeDistribution(widths=PixelRange(start=1600, stop=3200), heights=PixelRange(start=480, stop=640))
    spec = CorpusSpec(num_examples=3, sizes=sizes, task="multiclass", seed=0)
    build_corpus(spec, tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
    assert estimate_bytes(spec) == pytest.approx(written, rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_examples": 0}, "num_examples 0"),
        ({"task": "ternary"}, "task 'ternary'"),
        ({"seed": -1}, "seed -1"),
        ({"sizes": ((1, 1),)}, "1 sizes for 10 examples"),
    ],
)
def test_impossible_spec_is_refused(corpus_spec: CorpusSpec, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(corpus_spec, **change)


def test_planned_corpus_is_the_one_that_is_built(corpus_spec: CorpusSpec, built: Corpus) -> None:
    planned = planned_corpus(corpus_spec, Path("nowhere"))
    assert planned.corpus_id == built.corpus_id
    assert np.array_equal(planned.sizes_N2, built.sizes_N2)
    assert np.array_equal(planned.train_indices, built.train_indices)
    assert (planned.image_files, planned.mask_files) == (built.image_files, built.mask_files)


def test_corpus_is_complete_when_every_file_is_there_and_whole(corpus_spec: CorpusSpec, corpus: Corpus) -> None:
    assert is_complete(corpus_spec, corpus.directory)
    assert not is_complete(dataclasses.replace(corpus_spec, seed=8), corpus.directory)
    assert not is_complete(corpus_spec, corpus.directory / "nowhere")
    corpus.mask_path(9).write_bytes(corpus.mask_path(9).read_bytes()[:-1])
    assert not is_complete(corpus_spec, corpus.directory)
    build_corpus(corpus_spec, corpus.directory)
    (corpus.directory / "manifest.csv").unlink()
    assert not is_complete(corpus_spec, corpus.directory)


def test_cache_gives_each_spec_a_directory_of_its_own(corpus_spec: CorpusSpec, tmp_path: Path) -> None:
    specs = [corpus_spec, *(dataclasses.replace(corpus_spec, **change) for change in CHANGES)]
    assert len({cached_directory(spec, tmp_path) for spec in specs}) == len(specs)
    assert cached_directory(corpus_spec, tmp_path) == cached_directory(dataclasses.replace(corpus_spec), tmp_path)


@pytest.mark.processes
def test_corpora_are_written_and_read_without_torch(tmp_path: Path) -> None:
    program = f"""
import sys
from vnbench.images.synthesis import CorpusSpec, build_corpus
build_corpus(CorpusSpec(num_examples=2, sizes=((8, 40), (8, 50)), task="binary", seed=0), {str(tmp_path)!r})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_further_formats_lie_beside_the_same_corpus(corpus_spec: CorpusSpec, built: Corpus, tmp_path: Path) -> None:
    formats: tuple[ImageFormat, ...] = ("png", "tiff-g4", "tiff-zstd")
    corpus = build_corpus(corpus_spec, tmp_path, formats=formats)
    assert corpus.corpus_id == built.corpus_id
    assert is_complete(corpus_spec, tmp_path, formats)
    assert not is_complete(corpus_spec, tmp_path, ("tiff-deflate",))
    for index, (height, width) in enumerate(corpus.sizes_N2.tolist()):
        png_HW = read_gray(corpus.image_path(index), expected_size=(height, width))
        zstd = corpus.in_format("tiff-zstd").image_path(index)
        assert zstd == tmp_path / f"images.tiff-zstd/{index:06d}.tif"
        assert np.array_equal(read_gray(zstd, expected_size=(height, width)), png_HW)
        assert corpus.in_format("tiff-g4").mask_path(index) == corpus.mask_path(index)


def test_a_format_that_is_added_leaves_the_corpus_in_use(
    corpus_spec: CorpusSpec, built: Corpus, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sweep may be reading it: only files that are missing are written, and the manifest stays."""
    before = {path: path.stat().st_mtime_ns for path in corpus.directory.rglob("*.png")}

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(corpus_spec, corpus.directory, formats=("tiff-g4",), on_progress=interrupt)
    assert is_complete(corpus_spec, corpus.directory)
    assert build_corpus(corpus_spec, corpus.directory, formats=("tiff-g4",)).corpus_id == built.corpus_id
    assert is_complete(corpus_spec, corpus.directory, ("tiff-g4",))
    assert {path: path.stat().st_mtime_ns for path in corpus.directory.rglob("*.png")} == before


def test_a_half_file_of_a_format_is_written_anew(corpus_spec: CorpusSpec, corpus: Corpus) -> None:
    build_corpus(corpus_spec, corpus.directory, formats=("tiff-deflate",))
    path = corpus.in_format("tiff-deflate").image_path(3)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert not is_complete(corpus_spec, corpus.directory, ("tiff-deflate",))
    build_corpus(corpus_spec, corpus.directory, formats=("tiff-deflate",))
    assert path.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_estimated_bytes_of_each_format_are_about_right(image_format: ImageFormat, tmp_path: Path) -> None:
    sizes = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
    spec = CorpusSpec(num_examples=4, sizes=sizes, task="multiclass", seed=2)
    build_corpus(spec, tmp_path, formats=(image_format,))
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.[pt][ni][gf]"))
    assert estimate_bytes(spec, (image_format,)) == pytest.approx(written, rel=0.1)


@pytest.mark.parametrize("num_whole", [0, 5, 18])
def test_a_disk_that_fills_up_leaves_no_half_file_and_is_gone_on_with(
    num_whole: int, corpus_spec: CorpusSpec, built: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats: tuple[ImageFormat, ...] = ("png", "tiff-zstd")
    right = Path.write_bytes
    room = itertools.count()

    def write_bytes(path: Path, content: bytes) -> int:
        if next(room) > num_whole:
            right(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return right(path, content)

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(InputError, match="No space left on device"):
            build_corpus(corpus_spec, tmp_path / "logs", formats=formats)
    left = [path for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert not any(path.name.endswith(".part") for path in left)
    assert len(left) == num_whole + 1, "corpus.json is the first"
    assert not is_complete(corpus_spec, tmp_path / "logs", formats)
    assert build_corpus(corpus_spec, tmp_path / "logs", formats=formats).corpus_id == built.corpus_id
    assert is_complete(corpus_spec, tmp_path / "logs", formats)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_number_of_threads_changes_no_byte(
    num_threads: int, corpus_spec: CorpusSpec, built: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: num_threads)
    build_corpus(corpus_spec, tmp_path / "logs")
    assert files_of(tmp_path / "logs") == files_of(built.directory)


def test_only_the_wanted_examples_are_written_and_the_corpus_is_the_same(
    corpus_spec: CorpusSpec, built: Corpus, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    directory = tmp_path / "part"
    part = build_corpus(corpus_spec, directory, examples={1, 3}, on_progress=lambda *done: told.append(done))
    assert sorted(path.name for path in (directory / "images").iterdir()) == ["000001.png", "000003.png"]
    assert told == [(1, 2), (2, 2)]
    assert part.corpus_id == built.corpus_id
    assert len(part) == len(built)
    assert is_complete(corpus_spec, directory, examples={3})
    assert not is_complete(corpus_spec, directory, examples={2, 3})
    assert estimate_bytes(corpus_spec, examples={1, 3}) < estimate_bytes(corpus_spec)
    with pytest.raises(InputError, match="there is no file"):
        load_corpus(directory)
    assert load_corpus(directory, is_partial=True).corpus_id == built.corpus_id


def test_more_examples_join_those_that_are_there_and_leave_the_corpus_in_use(
    corpus_spec: CorpusSpec, built: Corpus, tmp_path: Path
) -> None:
    directory = tmp_path / "part"
    build_corpus(corpus_spec, directory, examples={1})
    first, manifest = (directory / "images/000001.png").stat(), (directory / "manifest.csv").stat()
    build_corpus(corpus_spec, directory, examples={1, 2})
    assert (directory / "images/000001.png").stat().st_mtime_ns == first.st_mtime_ns
    assert (directory / "manifest.csv").stat().st_mtime_ns == manifest.st_mtime_ns, "another sweep may be reading it"
    whole = build_corpus(corpus_spec, directory)
    assert files_of(directory) == files_of(built.directory)
    assert whole.corpus_id == built.corpus_id
