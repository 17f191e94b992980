"""``vnbench corpus --describe``: what the images of a folder are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vnbench.batching.sizes import SizeArray
from vnbench.errors import InputError
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.decoding.gray_files import read_mask
from vnbench.images.decoding.mask_classes import MaskClasses, class_table
from vnbench.images.finding.pairs import LeftOut, SplitBy
from vnbench.images.first_masks import OddFiles, count_odd_files
from vnbench.images.headers import read_headers
from vnbench.output.console import stderr_console
from vnbench.output.reading_progress import ReadingProgress
from vnbench.records.spec.words import IGNORED_CLASS, NUM_CLASSES
from vnbench.request.classes import settle_classes
from vnbench.request.options import OPTIONS

MAX_DECODED = 200
"""Masks that are decoded to count classes, evenly spread over the widths: of more only their headers are read."""

NUM_BINS = 10
"""Bars of the histogram of widths."""

MAX_THREADS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusDescription:
    """What the images of a folder are."""

    directory: Path
    """Where they lie."""
    corpus_id: str
    """Digest that tells equal corpora."""
    num_train: int
    """Examples to train on."""
    num_validation: int
    """The others."""
    sizes_N2: SizeArray
    """Height and width of each in pixels."""
    formats: tuple[tuple[str, int], ...]
    """Kinds of image files with their number, the most frequent first."""
    num_bytes: int
    """Of all image and mask files."""
    odd_files: OddFiles
    """Those that are not as they seem."""
    mask_numbers: tuple[int, ...]
    """Numbers that the counted masks hold."""
    mask_problem: tuple[str, str] | None
    """Which of them are no classes to a sweep, and what it has to be told; None if all are."""
    ignored_share: float
    """Mean share of the pixels that the loss leaves out."""
    class_shares: tuple[float, ...]
    """Mean share of the pixels of each class, background first."""
    foreground_range: tuple[float, float]
    """Smallest and largest share of the foreground in an image."""
    num_counted: int
    """Masks whose pixels were counted."""
    split_by: SplitBy | None
    """What tells the examples for validation; None where a manifest does."""
    left_out: tuple[LeftOut, ...]
    """Files of the folder that are not read."""

    def histogram(self) -> list[tuple[int, int, int]]:
        """Return bins of the widths: first and last width in pixels, and images."""
        widths_N = self.sizes_N2[:, 1]
        edges = np.unique(np.linspace(widths_N.min(), widths_N.max() + 1, NUM_BINS + 1).astype(np.int64))
        counts, _ = np.histogram(widths_N, bins=edges)
        return [
            (int(low), int(high) - 1, int(count))
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        heights_N, widths_N = self.sizes_N2.T
        return {
            "directory": str(self.directory),
            "corpus_id": self.corpus_id,
            "num_examples": len(self.sizes_N2),
            "num_train": self.num_train,
            "num_validation": self.num_validation,
            "widths": _spread(widths_N),
            "heights": _spread(heights_N),
            "formats": dict(self.formats),
            "num_bytes": self.num_bytes,
            **asdict(self.odd_files),
            "mask_numbers": list(self.mask_numbers),
            "mask_problem": self.mask_problem,
            "ignored_share": self.ignored_share,
            "class_shares": list(self.class_shares),
            "foreground_range": list(self.foreground_range),
            "num_counted": self.num_counted,
            "split_by": self.split_by or "manifest",
            "left_out": [asdict(left_out) for left_out in self.left_out],
            "histogram": [{"first": low, "last": high, "images": count} for low, high, count in self.histogram()],
        }


def describe_corpus_files(directory: Path, asked: Mapping[str, Any] | None = None) -> CorpusDescription:
    """Return what the images of a folder are: all headers are read, and up to MAX_DECODED masks.

    ``asked`` are parsed options of what the numbers in masks mean; without any, each number is counted by itself.

    Raises:
        InputError: the folder is no corpus, or numbers in its masks are no classes, as far as options say.
        CorpusError: a file is not what its manifest says.
    """
    with ReadingProgress(console=stderr_console()) as progress:
        corpus = load_corpus(directory, on_progress=progress)
    by_width = np.argsort(corpus.sizes_N2[:, 1], kind="stable")
    places = np.linspace(0, len(corpus) - 1, min(len(corpus), MAX_DECODED)).round().astype(np.int64)
    chosen = by_width[np.unique(places)].tolist()
    classes = _classes(asked or {}, corpus)
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        counted = list(pool.map(lambda index: _class_counts(corpus, index), chosen))
    headers = read_headers(corpus.image_files, root=directory)
    counts_N256 = np.array(counted, dtype=np.int64)
    numbers = np.flatnonzero(counts_N256.sum(axis=0)).tolist()
    unknown = classes.explain(numbers)
    if asked:
        if unknown is not None:
            raise InputError(str(directory), allowed=f"its masks hold {unknown[0]}", remedy=unknown[1])
        counts_N256 = _by_class(counts_N256, classes)
    shares_N256 = counts_N256 / counts_N256.sum(axis=1, keepdims=True)
    ignored_N = shares_N256[:, IGNORED_CLASS] if asked else np.zeros(len(counted))
    num_classes = classes.num_classes if asked else numbers[-1] + 1
    shares_NK = shares_N256[:, :num_classes]
    foreground_N = 1 - shares_NK[:, 0] - ignored_N
    paths = [path(index) for path in (corpus.image_path, corpus.mask_path) for index in range(len(corpus))]
    return CorpusDescription(
        directory=directory,
        corpus_id=corpus.corpus_id,
        num_train=len(corpus.train_indices),
        num_validation=len(corpus) - len(corpus.train_indices),
        sizes_N2=corpus.sizes_N2,
        formats=tuple(Counter(header.kind for header in headers).most_common()),
        num_bytes=sum(path.stat().st_size for path in paths),
        odd_files=count_odd_files(corpus),
        mask_numbers=tuple(numbers),
        mask_problem=unknown,
        ignored_share=float(ignored_N.mean()),
        class_shares=tuple(shares_NK.mean(axis=0).tolist()),
        foreground_range=(float(foreground_N.min()), float(foreground_N.max())),
        num_counted=len(counted),
        split_by=corpus.split_by,
        left_out=corpus.left_out,
    )


def _classes(asked: Mapping[str, Any], corpus: Corpus) -> MaskClasses:
    """Return what the numbers in masks mean, as options say and otherwise as the corpus or a sweep's default does."""
    values = {"task": corpus.task or OPTIONS["task"].default, **asked}
    settled = settle_classes(values, asked={**asked, "images": corpus.directory})
    return MaskClasses(
        num_classes=settled["classes"] or NUM_CLASSES[settled["task"]],
        values=settled["mask-values"],
        ignored=settled["ignore-value"],
    )


def _by_class(counts_N256: NDArray[np.int64], classes: MaskClasses) -> NDArray[np.int64]:
    """Return the pixels of each class from those of each number."""
    sums_N256 = np.zeros_like(counts_N256)
    for number, class_index in enumerate(class_table(classes).tolist()):
        sums_N256[:, class_index] += counts_N256[:, number]
    return sums_N256


def _class_counts(corpus: Corpus, index: int) -> list[int]:
    """Return the pixels of each of 256 numbers in a mask."""
    height, width = corpus.sizes_N2[index].tolist()
    mask_HW = read_mask(corpus.mask_path(index), expected_size=(height, width))
    counts: list[int] = np.bincount(mask_HW.reshape(-1), minlength=256).tolist()
    return counts


def _spread(sides_N: Any) -> dict[str, float]:
    return {"smallest": int(sides_N.min()), "median": float(np.median(sides_N)), "largest": int(sides_N.max())}
