from __future__ import annotations

import numpy as np
import pytest

from vnbench.data.raster import MAX_LINE_THICKNESS, draw_example
from vnbench.spec import Task


@pytest.mark.parametrize(("task", "classes"), [("multiclass", [0, 1, 2]), ("binary", [0, 1])])
def test_mask_holds_the_classes_of_its_task(task: Task, classes: list[int]) -> None:
    image_HW, mask_HW = draw_example(seed=0, index=0, height=96, width=500, task=task)
    assert image_HW.shape == mask_HW.shape == (96, 500)
    assert image_HW.dtype == mask_HW.dtype == np.uint8
    assert np.unique(mask_HW).tolist() == classes


def test_both_tasks_see_the_same_image_and_foreground() -> None:
    multiclass = draw_example(seed=3, index=1, height=96, width=500, task="multiclass")
    binary = draw_example(seed=3, index=1, height=96, width=500, task="binary")
    assert np.array_equal(multiclass[0], binary[0])
    assert np.array_equal(multiclass[1] > 0, binary[1] > 0)


def test_drawing_depends_on_seed_and_index_alone() -> None:
    first = draw_example(seed=5, index=2, height=60, width=200, task="multiclass")
    draw_example(seed=5, index=3, height=61, width=200, task="multiclass")
    again = draw_example(seed=5, index=2, height=60, width=200, task="multiclass")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for seed, index in ((6, 2), (5, 3)):
        other = draw_example(seed=seed, index=index, height=60, width=200, task="multiclass")
        assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("index", range(6))
def test_second_curve_is_connected_in_every_column_and_one_to_three_pixels_thick(index: int) -> None:
    _, mask_HW = draw_example(seed=1, index=index, height=640, width=2000, task="multiclass")
    curve_HW = mask_HW == 2
    runs_W = np.abs(np.diff(curve_HW.astype(np.int8), axis=0, prepend=0, append=0)).sum(axis=0)
    assert (runs_W == 2).all(), "one unbroken run in each column"
    assert (curve_HW[:, :-1] & curve_HW[:, 1:]).any(axis=0).all(), "neighbouring columns share a row"
    side = MAX_LINE_THICKNESS + 1
    blocks = np.lib.stride_tricks.sliding_window_view(curve_HW, (side, side))
    assert not blocks.all(axis=(2, 3)).any(), "no block of 4 x 4 px fits into the line"


def test_flat_curves_have_each_thickness_from_one_to_three_pixels() -> None:
    thinnest = set()
    for index in range(12):
        _, mask_HW = draw_example(seed=1, index=index, height=480, width=600, task="multiclass")
        thinnest.add(int((mask_HW == 2).sum(axis=0).min()))
    assert thinnest == {1, 2, 3}


def test_curves_are_darker_than_the_paper_and_the_grid() -> None:
    image_HW, mask_HW = draw_example(seed=0, index=0, height=200, width=800, task="binary")
    assert image_HW[mask_HW == 1].max() < image_HW[mask_HW == 0].min()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (2, 3), (50, 1)])
def test_smallest_images_can_be_drawn(height: int, width: int) -> None:
    image_HW, mask_HW = draw_example(seed=0, index=0, height=height, width=width, task="multiclass")
    assert image_HW.shape == mask_HW.shape == (height, width)
    assert (mask_HW > 0).any(axis=0).all()


def test_image_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 px"):
        draw_example(seed=0, index=0, height=0, width=10, task="binary")
