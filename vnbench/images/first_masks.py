"""What the pixels of a few masks tell before anything is measured: whether their numbers are classes."""

from __future__ import annotations

import numpy as np

from vnbench.errors import InputError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_files import read_mask
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.units import count

NUM_LOOKED_AT = 8
"""Masks that are decoded, evenly spread: one alone may lack a class, and a large one takes 20 ms."""


def check_first_masks(corpus: Corpus, classes: MaskClasses, *, option: str) -> None:
    """Refuse masks that hold numbers which are no classes; ``option`` names the folder.

    Raises:
        InputError: with what was seen, and what to write.
        CorpusError: a mask does not decode.
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
            allowed=f"the {count(len(chosen), 'mask')} looked at hold {found[0]}",
            remedy=found[1],
        )
