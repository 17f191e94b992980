from __future__ import annotations

import numpy as np
import pytest
from record_factory import training_spec

from vnbench.errors import CorpusError
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.records.spec.words import IGNORED_CLASS


def test_numbers_become_the_classes_that_a_trial_says() -> None:
    mask_HW = np.array([[0, 128, 255], [7, 0, 128]], dtype=np.uint8)
    classes = MaskClasses.of(training_spec(mask_values=(0, 128, 255), ignore_value=7))
    assert classes.num_classes == 3
    assert classes.decode(mask_HW).tolist() == [[0, 1, 2], [IGNORED_CLASS, 0, 1]]
    assert MaskClasses.of(training_spec(mask_values=(128, 0, 255), ignore_value=7)).decode(mask_HW)[0, 0] == 1


def test_numbers_that_are_classes_already_are_not_copied() -> None:
    mask_HW = np.array([[0, 1, 2]], dtype=np.uint8)
    assert MaskClasses(num_classes=3).decode(mask_HW) is mask_HW


def test_a_class_can_be_left_out() -> None:
    mask_HW = np.array([[0, 1, 2]], dtype=np.uint8)
    assert MaskClasses(num_classes=3, ignored=0).decode(mask_HW).tolist() == [[IGNORED_CLASS, 1, 2]]


@pytest.mark.parametrize(
    ("numbers", "classes", "told"),
    [
        ([0, 255], {}, "holds 0,255, of which 255 is not a class; classes are 0 to 2; write --mask-values 0,255"),
        ([255], {}, "holds 255, of which 255 is not a class; classes are 0 to 2; write --mask-values 0,255"),
        (
            [0, 128, 255],
            {},
            "holds 0,128,255, of which 128,255 are not classes; classes are 0 to 2; write --mask-values 0,128",
        ),
        (
            [0, 1, 2, 3, 4],
            {},
            "holds 0,1,2,3,4, of which 3,4 are not classes; classes are 0 to 2; write --classes 5",
        ),
        (
            [0, 1, 252, 253, 254, 255],
            {},
            "holds 0,1,252,253,254,255, of which 252,253,254,255 are not classes; classes are 0 to 2; save the masks "
            "without shades of gray: not as JPEG, and resized only by nearest neighbour",
        ),
        (
            [1, 2, 3],
            {},
            "holds 1,2,3, of which 3 is not a class; classes are 0 to 2; write --classes 4, or --mask-values 1,2,3 if "
            "no pixel is 0",
        ),
        ([0, 5], {}, "holds 0,5, of which 5 is not a class; classes are 0 to 2; write --classes 6"),
        (
            [0, 1, 255],
            {},
            "holds 0,1,255, of which 255 is not a class; classes are 0 to 2; write --ignore-value 255 to ignore its "
            "pixels, or --mask-values 0,1,255 if it is a class",
        ),
        (
            [0, 1, 20, 255],
            {},
            "holds 0,1,20,255, of which 20,255 are not classes; classes are 0 to 2; write --classes 21 --ignore-value "
            "255 to ignore its pixels, or --mask-values 0,1,20,255 if it is a class",
        ),
        (
            [0, 3, 255],
            {"ignored": 255},
            "holds 0,3,255, of which 3 is not a class; classes are 0 to 2; write --classes 4",
        ),
        (
            [0, 9, 255],
            {"values": (0, 1, 255)},
            "holds 0,9,255, of which 9 is not a class; classes are those of --mask-values 0,1,255; add 9 to the list, "
            "or write --ignore-value 9",
        ),
        (
            list(range(0, 256, 2)),
            {},
            "holds 128 numbers from 0 to 254, of which 126 numbers from 4 to 254 are not classes; classes are 0 to 2; "
            "save the masks without shades of gray: not as JPEG, and resized only by nearest neighbour",
        ),
    ],
)
def test_a_number_that_is_no_class_is_told_with_what_to_do(
    numbers: list[int], classes: dict[str, object], told: str
) -> None:
    found = MaskClasses(**({"num_classes": 3} | classes))
    with pytest.raises(CorpusError) as error:
        found.decode(np.array([numbers], dtype=np.uint8))
    assert str(error.value).startswith(told)


def test_numbers_that_are_all_known_need_no_word() -> None:
    assert MaskClasses(num_classes=3).explain([0, 2]) is None
    assert MaskClasses(num_classes=2, values=(0, 255), ignored=9).explain([0, 9, 255]) is None
