"""``vnbench corpus --describe``: what the images of a folder are."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vnbench.batching.sizes import SizeArray
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.gray_files import check_header, read_mask

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
    class_shares: tuple[float, ...]
    """Mean share of the pixels of each class, background first."""
    foreground_range: tuple[float, float]
    """Smallest and largest share of the foreground in an image."""
    num_counted: int
    """Masks whose pixels were counted."""

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
            "class_shares": list(self.class_shares),
            "foreground_range": list(self.foreground_range),
            "num_counted": self.num_counted,
            "histogram": [{"first": low, "last": high, "images": count} for low, high, count in self.histogram()],
        }


def describe_corpus_files(directory: Path) -> CorpusDescription:
    """Return what the images of a folder are: all headers are read, and up to MAX_DECODED masks.

    Raises:
        InputError: the folder is no corpus.
        CorpusError: a file is not what its manifest says.
    """
    corpus = load_corpus(directory)
    by_width = np.argsort(corpus.sizes_N2[:, 1], kind="stable")
    places = np.linspace(0, len(corpus) - 1, min(len(corpus), MAX_DECODED)).round().astype(np.int64)
    chosen = by_width[np.unique(places)].tolist()
    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        kinds = Counter(pool.map(lambda index: _kind(corpus, index), range(len(corpus))))
        counted = list(pool.map(lambda index: _class_counts(corpus, index), chosen))
    counts_N256 = np.array(counted, dtype=np.int64)
    num_classes = int(np.flatnonzero(counts_N256.sum(axis=0)).max()) + 1
    shares_NK = counts_N256[:, :num_classes] / counts_N256.sum(axis=1, keepdims=True)
    foreground_N = 1 - shares_NK[:, 0]
    paths = [path(index) for path in (corpus.image_path, corpus.mask_path) for index in range(len(corpus))]
    return CorpusDescription(
        directory=directory,
        corpus_id=corpus.corpus_id,
        num_train=len(corpus.train_indices),
        num_validation=len(corpus) - len(corpus.train_indices),
        sizes_N2=corpus.sizes_N2,
        formats=tuple(kinds.most_common()),
        num_bytes=sum(path.stat().st_size for path in paths),
        class_shares=tuple(shares_NK.mean(axis=0).tolist()),
        foreground_range=(float(foreground_N.min()), float(foreground_N.max())),
        num_counted=len(counted),
    )


def _kind(corpus: Corpus, index: int) -> str:
    height, width = corpus.sizes_N2[index].tolist()
    return check_header(corpus.image_path(index), expected_size=(height, width)).kind


def _class_counts(corpus: Corpus, index: int) -> list[int]:
    """Return the pixels of each of 256 classes in a mask."""
    height, width = corpus.sizes_N2[index].tolist()
    mask_HW = read_mask(corpus.mask_path(index), expected_size=(height, width))
    counts: list[int] = np.bincount(mask_HW.reshape(-1), minlength=256).tolist()
    return counts


def _spread(sides_N: Any) -> dict[str, float]:
    return {"smallest": int(sides_N.min()), "median": float(np.median(sides_N)), "largest": int(sides_N.max())}
