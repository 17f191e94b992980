from __future__ import annotations

import numpy as np
import pytest

from vnbench.analysis.models.mean_size import plan_by_mean_size

WIDE = 640 * 12_800


def half_wide() -> np.ndarray:
    widths_N = np.array([3200, 12_800] * 400)
    return np.stack([np.full_like(widths_N, 640), widths_N], axis=1)


def test_planning_by_the_mean_size_fails_where_wide_images_meet() -> None:
    # Four of the widest fit and five do not, so seven of the mean size seem to: 8 would take as much as 5 wide ones.
    bucketed = plan_by_mean_size(half_wide(), too_many_pixels=5 * WIDE, sampler="bucketed", seed=0)
    assert bucketed.micro_batch_size == 7
    # Every batch of wide images fails, none of narrow ones.
    assert bucketed.failing_steps_ratio == pytest.approx(0.5, abs=0.02)
    random_steps = plan_by_mean_size(half_wide(), too_many_pixels=5 * WIDE, sampler="random", seed=0)
    assert random_steps.failing_steps_ratio > 0.95, "nearly every random batch holds a wide one"


def test_images_of_one_size_are_planned_as_the_worst_case_is() -> None:
    sizes_N2 = np.array([[640, 12_800]] * 20)
    mean = plan_by_mean_size(sizes_N2, too_many_pixels=5 * WIDE, sampler="random", seed=0)
    assert (mean.micro_batch_size, mean.failing_steps_ratio) == (4, 0.0)


def test_a_memory_below_the_mean_image_allows_nothing() -> None:
    mean = plan_by_mean_size(half_wide(), too_many_pixels=640 * 3200, sampler="random", seed=0)
    assert (mean.micro_batch_size, mean.failing_steps_ratio) == (0, 1.0)


def test_no_more_examples_are_planned_than_there_are() -> None:
    sizes_N2 = np.array([[640, 3200]] * 3)
    mean = plan_by_mean_size(sizes_N2, too_many_pixels=100 * WIDE, sampler="random", seed=0)
    assert (mean.micro_batch_size, mean.failing_steps_ratio) == (3, 0.0)
