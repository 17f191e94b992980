"""Checks of masks before anything is measured: the classes in a few of them, and the headers of all files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vnbench.errors import InputError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_files import read_mask
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.images.decoding.pixel_rules import MIRRORED_ABOUT_DIAGONAL, UPRIGHT
from vnbench.images.headers import read_headers
from vnbench.units import count

NUM_LOOKED_AT = 8
"""Number of masks to decode, evenly spread: one alone may lack a class, and a large one takes 20 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OddFiles:
    """How many files of a corpus are read although their headers hint at trouble."""

    num_turned: int
    """Images that are rotated because of their EXIF orientation."""
    num_turned_alone: int
    """Of these, images whose mask is not rotated but has the right size anyway, so that no other check notices."""
    num_lossy_masks: int
    """Masks with JPEG compression, which changes pixel values."""


def count_odd_files(corpus: Corpus) -> OddFiles:
    """Return how many files of a corpus have a suspicious header. Headers that are cached are not read again.

    Raises:
        InputError: a header cannot be read.
    """
    images = read_headers(corpus.image_files, root=corpus.directory)
    masks = read_headers(corpus.mask_files, root=corpus.directory)
    turned_alone = [
        image
        for image, mask in zip(images, masks, strict=True)
        if image.orientation != UPRIGHT == mask.orientation
        and (image.orientation < MIRRORED_ABOUT_DIAGONAL or image.height == image.width)
    ]
    return OddFiles(
        num_turned=sum(image.orientation != UPRIGHT for image in images),
        num_turned_alone=len(turned_alone),
        num_lossy_masks=sum("jpeg" in mask.kind.lower() for mask in masks),
    )


def check_first_masks(corpus: Corpus, classes: MaskClasses, *, option: str) -> frozenset[int]:
    """Return the numbers that a few masks hold; refuse other numbers than classes. ``option`` named the folder.

    Raises:
        InputError: a mask holds such a number; the message says which and suggests options.
        CorpusError: a mask cannot be decoded.
    """
    chosen = np.unique(np.linspace(0, len(corpus) - 1, NUM_LOOKED_AT).round().astype(np.int64)).tolist()
    numbers: set[int] = set()
    for index in chosen:
        height, width = corpus.sizes_N2[index].tolist()
        numbers.update(np.unique(read_mask(corpus.mask_path(index), expected_size=(height, width))).tolist())
    found = classes.explain(numbers)
    if found is not None:
        raise InputError(
            option,
            corpus.directory,
            allowed=f"the {count(len(chosen), 'mask')} checked hold {found[0]}",
            remedy=found[1],
        )
    return frozenset(numbers)
