from __future__ import annotations

import numpy as np
import pytest

from vnbench.errors import CorpusError, InputError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_png import encode_mask
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.images.first_masks import check_first_masks


def test_the_numbers_of_several_masks_are_taken_together(corpus: Corpus) -> None:
    check_first_masks(corpus, MaskClasses(num_classes=3), option="--images")
    for index, number in ((0, 7), (9, 4)):
        size = tuple(corpus.sizes_N2[index].tolist())
        corpus.mask_path(index).write_bytes(encode_mask(np.full(size, number, dtype=np.uint8)))
    with pytest.raises(InputError) as error:
        check_first_masks(corpus, MaskClasses(num_classes=3), option="--images")
    assert str(error.value) == (
        f"--images {corpus.directory}: the 8 masks checked hold 0,1,2,4,7, of which 4,7 are not classes; classes are 0 "
        "to 2; write --classes 8"
    )


def test_a_mask_that_does_not_decode_is_named(corpus: Corpus) -> None:
    whole = corpus.mask_path(0).read_bytes()
    corpus.mask_path(0).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match=r"masks/000000\.png: does not decode"):
        check_first_masks(corpus, MaskClasses(num_classes=3), option="--images")
