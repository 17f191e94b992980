from __future__ import annotations

import math

import pytest

from vnbench.analysis.planning.schedule import make_schedule
from vnbench.analysis.planning.spread import Finish


def finish(p50: float, *, late: float = 0.0) -> Finish:
    return Finish(p10=p50 - late, p50=p50, p90=p50 + late, mean=p50, probability=None)


def test_the_longest_goes_first_and_each_to_the_card_that_is_free_first() -> None:
    runs = [("two", finish(2.0)), ("five", finish(5.0)), ("three", finish(3.0)), ("four", finish(4.0))]
    schedule = make_schedule(runs, num_cards=2, window_s=None)
    placed = {one.name: (one.card, one.start_s, one.end_s) for one in schedule.placed}
    assert placed == {"five": (0, 0.0, 5.0), "four": (1, 0.0, 4.0), "three": (1, 4.0, 7.0), "two": (0, 5.0, 7.0)}
    assert schedule.left_out == ()


def test_what_would_end_after_the_window_is_left_out_and_the_next_is_tried() -> None:
    schedule = make_schedule([("a", finish(4.0)), ("b", finish(3.0)), ("c", finish(1.0))], num_cards=1, window_s=5.0)
    assert [one.name for one in schedule.placed] == ["a", "c"]
    assert schedule.left_out == ("b",)
    never = make_schedule([("a", finish(math.inf))], num_cards=1, window_s=None)
    assert never.left_out == ("a",)


def test_what_comes_before_on_a_card_makes_a_run_late() -> None:
    runs = [("first", finish(10.0, late=3.0)), ("second", finish(5.0, late=4.0))]
    first, second = make_schedule(runs, num_cards=1, window_s=None).placed
    assert first.late_end_s == 13.0
    assert second.late_end_s == pytest.approx(15.0 + 5.0)
