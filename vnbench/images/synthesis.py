"""Writing of synthetic corpora to a cache, resumable after a kill."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vnbench.batching.sizes import MAX_SEED, SizeArray, SizeDistribution, draw_sizes
from vnbench.errors import InputError
from vnbench.images.corpus import (
    FACTS_FILE,
    GENERATOR,
    MANIFEST_FILE,
    Corpus,
    describe_corpus,
    file_in_format,
    load_corpus,
    read_facts,
)
from vnbench.images.decoding.gray_files import encode, is_whole
from vnbench.images.decoding.gray_png import encode_mask
from vnbench.images.drawing.raster import GENERATOR_VERSION, draw_example
from vnbench.images.known_files import Progress
from vnbench.images.manifest import ManifestRow, format_manifest
from vnbench.images.splits import validation_indices
from vnbench.records.spec.words import TASKS, ImageFormat, Task
from vnbench.records.values.identity import digest
from vnbench.units import format_bytes

BYTES_PER_PIXEL: Mapping[ImageFormat, float] = {"png": 0.452, "tiff-g4": 0.022, "tiff-deflate": 0.58, "tiff-zstd": 0.58}
"""Bytes per pixel of an encoded image, measured on 40 examples of 480 to 640 x 3,200 to 12,800 px. Grain takes most of
an 8-bit file, so that the figure hardly depends on the size."""

MASK_BYTES_PER_PIXEL = 0.028
"""Bytes per pixel of a mask in PNG."""

IMAGES = "images"
MASKS = "masks"

MAX_THREADS = 8
"""Drawing and compression release the GIL. Each thread holds about 40 MB for an image of 640 x 12,800."""

STALE_PART_AGE_S = 600.0
"""Age at which an unfinished file must be from a killed process: writing a file takes a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSpec:
    """Full specification of a synthetic corpus. The pixels of example i do not depend on the number of examples."""

    num_examples: int
    """Number of examples in both splits together, at least 1."""
    sizes: SizeDistribution | tuple[tuple[int, int], ...]
    """Distribution of the sizes, or the (height, width) of each example in pixels."""
    task: Task
    """Task, which determines the classes in the masks."""
    seed: int
    """Seed of sizes and pixels, 0 to MAX_SEED."""

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError(f"num_examples {self.num_examples}: must be at least 1")
        if self.task not in TASKS:
            raise ValueError(f"task {self.task!r}: must be one of {', '.join(TASKS)}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed {self.seed}: must be within 0 to {MAX_SEED}")
        if not isinstance(self.sizes, SizeDistribution) and len(self.sizes) != self.num_examples:
            raise ValueError(f"{len(self.sizes)} sizes for {self.num_examples} examples")

    def sizes_N2(self) -> SizeArray:
        """Return height and width of each example in pixels, int64 (N, 2)."""
        if isinstance(self.sizes, SizeDistribution):
            return draw_sizes(self.sizes, self.num_examples, seed=self.seed)
        return np.array(self.sizes, dtype=np.int64)

    def facts(self) -> dict[str, Any]:
        """Return how the corpus is generated, in JSON values: equal facts give equal images."""
        sizes = asdict(self.sizes) if isinstance(self.sizes, SizeDistribution) else {"table": digest(self.sizes)}
        return {
            "generator": GENERATOR,
            "generator_version": GENERATOR_VERSION,
            "task": self.task,
            "num_examples": self.num_examples,
            "seed": self.seed,
            "sizes": sizes,
        }


def estimate_bytes(
    spec: CorpusSpec, formats: Sequence[ImageFormat] = ("png",), *, examples: Collection[int] | None = None
) -> int:
    """Return the approximate size in bytes of the files of some examples, always including their PNGs and masks."""
    per_pixel = MASK_BYTES_PER_PIXEL + sum(BYTES_PER_PIXEL[one] for one in {"png", *formats})
    sizes_N2 = spec.sizes_N2() if examples is None else spec.sizes_N2()[sorted(examples)]
    return round(int(sizes_N2.prod(axis=1).sum()) * per_pixel)


def cached_directory(spec: CorpusSpec, cache_root: Path) -> Path:
    """Return the directory of a spec's corpus in a cache; each spec has its own."""
    return cache_root / f"{spec.task}-{spec.num_examples}-{digest(spec.facts())}"


def planned_corpus(spec: CorpusSpec, directory: Path) -> Corpus:
    """Return the corpus that ``build_corpus`` would write to a directory. Nothing is read or written."""
    return describe_corpus(_plan_rows(spec.sizes_N2()), directory=directory, facts=spec.facts())


def is_complete(
    spec: CorpusSpec,
    directory: Path,
    formats: Sequence[ImageFormat] = ("png",),
    *,
    examples: Collection[int] | None = None,
) -> bool:
    """Return whether a directory holds whole files of these examples of a spec's corpus in these formats.

    ``examples`` holds their indices; None means all.

    Raises:
        InputError: the directory's ``corpus.json`` cannot be read.
    """
    rows = _plan_rows(spec.sizes_N2())
    return (
        read_facts(directory) == spec.facts()
        and _holds(directory / MANIFEST_FILE, format_manifest(rows).encode())
        and not any(_missing_files(row, directory, formats) for row in _wanted(rows, examples))
    )


def build_corpus(
    spec: CorpusSpec,
    directory: Path | str,
    *,
    formats: Sequence[ImageFormat] = ("png",),
    examples: Collection[int] | None = None,
    on_progress: Progress | None = None,
) -> Corpus:
    """Write examples of a spec's corpus to a directory and return the corpus. Files that are already whole are kept.

    ``examples`` holds the indices of the examples to write; None means all. The manifest always names all examples.

    The manifest names PNG files, which are always written; images in further ``formats`` are stored beside them.

    A file gets its name only when it is complete, and the manifest is written last: a killed build resumes where it
    stopped, and two builds at once do no harm. ``on_progress`` is called in the calling thread after each written
    example, with the number of requested examples that exist and the number requested.

    Raises:
        InputError: the directory cannot be written, or holds something else.
    """
    directory = Path(directory)
    try:
        _claim(directory, spec.facts())
        _write_missing(spec, directory, formats, examples=examples, on_progress=on_progress)
    except OSError as error:
        raise InputError(
            "corpus directory",
            directory,
            allowed=f"cannot be written ({error.strerror or error})",
            remedy=f"choose one with room for about {format_bytes(estimate_bytes(spec, formats))}",
        ) from error
    return load_corpus(directory, is_partial=examples is not None)


def _claim(directory: Path, facts: Mapping[str, Any]) -> None:
    """Claim a directory for the corpus with these facts; refuse if it holds another corpus."""
    directory.mkdir(parents=True, exist_ok=True)
    present = read_facts(directory)
    is_other = (
        present != facts
        if present is not None
        else any((directory / name).exists() for name in (IMAGES, MASKS, MANIFEST_FILE))
    )
    if is_other:
        raise InputError(
            "corpus directory",
            directory,
            allowed="holds another corpus",
            remedy="choose an empty directory, or delete this one",
        )
    if present is None:  # written first, so that files here are known to belong to this corpus
        _write_whole(directory / FACTS_FILE, json.dumps(facts, indent=2).encode() + b"\n")
    for name in (IMAGES, MASKS):
        (directory / name).mkdir(exist_ok=True)


def _write_missing(
    spec: CorpusSpec,
    directory: Path,
    formats: Sequence[ImageFormat],
    *,
    examples: Collection[int] | None,
    on_progress: Progress | None,
) -> None:
    rows = _plan_rows(spec.sizes_N2())
    wanted = _wanted(rows, examples)
    missing = [row for row in wanted if _missing_files(row, directory, formats)]
    manifest, text = directory / MANIFEST_FILE, format_manifest(rows).encode()
    if examples is None and any(_missing_files(row, directory, ()) for row in missing):
        manifest.unlink(missing_ok=True)  # without a manifest, the directory does not count as a corpus
    if missing:
        _remove_stale_parts(directory)
    for name in {str(PurePosixPath(file_in_format(row.image, one)).parent) for row in missing[:1] for one in formats}:
        (directory / name).mkdir(exist_ok=True)

    def write_example(row: ManifestRow) -> None:
        image_HW, mask_HW = draw_example(
            seed=spec.seed, index=row.index, height=row.height, width=row.width, task=spec.task
        )
        for name, image_format in _missing_files(row, directory, formats).items():
            content = encode_mask(mask_HW) if image_format is None else encode(image_HW, image_format)
            _write_whole(directory / name, content)

    pool = ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1))
    try:
        for num_left, _ in zip(reversed(range(len(missing))), pool.map(write_example, missing), strict=True):
            if on_progress is not None:
                on_progress(len(wanted) - num_left, len(wanted))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt waits only for files in progress
    if not _holds(manifest, text):
        _write_whole(manifest, text)


def _plan_rows(sizes_N2: SizeArray) -> list[ManifestRow]:
    """Return the rows of the manifest."""
    validation = validation_indices(sizes_N2)
    return [
        ManifestRow(
            index=index,
            split="validation" if index in validation else "train",
            width=width,
            height=height,
            image=f"{IMAGES}/{index:06d}.png",
            mask=f"{MASKS}/{index:06d}.png",
        )
        for index, (height, width) in enumerate(sizes_N2.tolist())
    ]


def _wanted(rows: list[ManifestRow], examples: Collection[int] | None) -> list[ManifestRow]:
    return rows if examples is None else [row for row in rows if row.index in examples]


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _missing_files(row: ManifestRow, directory: Path, formats: Sequence[ImageFormat]) -> dict[str, ImageFormat | None]:
    """Return the missing or incomplete files of an example with their formats; the mask's format is None."""
    files: dict[str, ImageFormat | None] = {row.image: "png", row.mask: None}
    files |= {file_in_format(row.image, one): one for one in formats}
    size = (row.height, row.width)
    return {name: kind for name, kind in files.items() if not is_whole(directory / name, expected_size=size)}


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, then rename it, so that no reader sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_stale_parts(directory: Path) -> None:
    for part in directory.rglob(".*.part"):
        with suppress(FileNotFoundError):  # another build renamed its file
            if time.time() - part.stat().st_mtime > STALE_PART_AGE_S:
                part.unlink()
