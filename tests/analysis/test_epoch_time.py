from __future__ import annotations

import numpy as np
import pytest

from vnbench.analysis.models.epoch_time import EpochTime


@pytest.mark.parametrize(("computing_s", "loading_s"), [(10.0, 4.0), (4.0, 10.0), (7.0, 0.0)])
def test_workers_hide_the_shorter_part_and_without_them_both_add_up(computing_s: float, loading_s: float) -> None:
    beside, alone = (
        EpochTime(computing_s=computing_s, loading_s=loading_s, has_workers=has_workers, validation_s=2.0)
        for has_workers in (True, False)
    )
    assert beside.bracket_s == alone.bracket_s == (max(computing_s, loading_s), computing_s + loading_s)
    assert beside.total_s == max(computing_s, loading_s) + 2
    assert alone.total_s == computing_s + loading_s + 2


@pytest.mark.parametrize("has_workers", [True, False])
def test_draws_of_an_epoch_are_made_of_their_parts_one_by_one(has_workers: bool) -> None:
    computing_N, loading_N = np.array([10.0, 4.0, 7.0]), np.array([4.0, 10.0, 0.0])
    drawn = EpochTime(computing_s=computing_N, loading_s=loading_N, has_workers=has_workers, validation_s=2.0)
    each = [
        EpochTime(computing_s=computing, loading_s=loading, has_workers=has_workers, validation_s=2.0).total_s
        for computing, loading in zip(computing_N.tolist(), loading_N.tolist(), strict=True)
    ]
    assert drawn.total_s.tolist() == each
