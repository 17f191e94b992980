from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import record_factory as factory

from vnbench.analysis.trials.steps import Steps, steps_of


def steps(**changes: tuple[object, ...]) -> Steps:
    """Return five steps: one of warm-up, four measured, of which the scaler skipped the second."""
    columns = factory.steps_of([9.0, 1.0, 2.0, 3.0, 4.0], num_warm_up=1, skipped=[2])
    columns["canvas_width"] = (64, 64, 96, 64, 96)
    return steps_of(factory.record_of(factory.training_spec(), steps=columns | changes))


def test_warm_up_is_not_measured_and_what_the_scaler_skipped_does_not_count() -> None:
    assert steps()["step_time_s"].tolist() == [9, 1, 2, 3, 4]
    assert steps().warm_up["step_time_s"].tolist() == [9]
    assert steps().measured["step_time_s"].tolist() == [1, 2, 3, 4]
    assert steps().counted["step_time_s"].tolist() == [1, 3, 4]
    assert [len(part) for part in (steps(), steps().measured, steps().counted)] == [5, 4, 3]


def test_canvases_stand_in_the_order_of_their_first_step() -> None:
    by_canvas = steps().measured.by_canvas
    assert {canvas: part["step_time_s"].tolist() for canvas, part in by_canvas.items()} == {
        (640, 64): [1, 3],
        (640, 96): [2, 4],
    }
    assert list(by_canvas) == [(640, 64), (640, 96)]
    assert by_canvas[640, 96].counted["step_time_s"].tolist() == [4]


def test_blocks_are_told_apart_and_the_first_records_had_one() -> None:
    blocks = steps(block=(0, 1, 1, 2, 2)).measured.by_block
    assert [block["step_time_s"].tolist() for block in blocks] == [[1, 2], [3, 4]]
    columns = factory.steps_of([1.0, 2.0])
    del columns["block"]
    (only,) = steps_of(factory.record_of(factory.training_spec(), steps=columns)).by_block
    assert only.total("step_time_s") == 3


def test_nothing_sums_over_a_hole() -> None:
    part = steps(step_time_s=(9.0, 1.0, None, 3.0, 4.0))
    assert part.measured.known("step_time_s") == []
    assert part.counted.known("step_time_s") == [1, 3, 4], "the hole is in a step that does not count"
    assert np.isnan(part.measured.total("step_time_s"))


def test_whole_numbers_stay_whole() -> None:
    assert steps().measured.rows("canvas_height", "canvas_width")[1] == (640, 96)
    assert all(isinstance(value, int) for value in steps().known("padded_pixels"))


def test_sums_are_rounded_once() -> None:
    assert steps(step_time_s=(0.0, 1e16, 1.0, 1.0, -1e16)).total("step_time_s") == 2.0


def test_a_trial_without_steps_has_none() -> None:
    none = steps_of(factory.record_of(factory.training_spec(), steps=None))
    assert len(none) == len(none.measured) == len(none.counted) == 0
    assert none.counted.known("step_time_s") == []
    assert none.measured.by_canvas == {}


@pytest.mark.parametrize("wrong", ["1.0", 10**400, math.nan, [2.0]], ids=["text", "too large", "nan", "list"])
def test_a_column_of_something_else_than_numbers_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="step_time_s"):
        steps(step_time_s=(9.0, 1.0, wrong, 3.0, 4.0))["step_time_s"]


def test_a_column_that_the_record_lacks_is_named() -> None:
    with pytest.raises(KeyError, match="step_time_s"):
        steps_of(dataclasses.replace(factory.record_of(factory.training_spec()), steps={"is_warm_up": (False,)}))[
            "step_time_s"
        ]
