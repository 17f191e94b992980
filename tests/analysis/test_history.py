"""When something changed in a history of revisions, in all rows or in one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import record_factory as factory

from vnbench.analysis.comparison.history import History, Revision, by_machine, history_of, lasting
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of, side_of

ROWS = tuple("abcdefghi")
Factor = Callable[[str, int], float]


def side(
    times: Mapping[str, float], *, number: int = 0, memory: float | None = None, keys: Mapping[str, str] | None = None
) -> Side:
    """Return a side of one sweep in which each row has one time, and all the same peak."""
    figures = {row: {"time": figure_of([time], metric="time")} for row, time in times.items()}
    if memory is not None:
        for row in figures:
            figures[row]["memory"] = figure_of([memory], metric="memory")  # type: ignore[index]
    return Side(
        keys={key: (value,) for key, value in (keys or {"device": "a card"}).items()},
        configurations={
            row: Configuration(name=row, statuses={"ok": 1}, figures=found)  # type: ignore[arg-type]
            for row, found in figures.items()
        },
        levels=({f"{number:03}": {row: (time, 10) for row, time in times.items()}},),
    )


def revision(number: int, found: Side) -> Revision:
    return Revision(name=f"r{number}", model_id=None, started_at=f"{number:03}", side=found)


def simulated(seed: int, *, factor: Factor, noise: float = 0.01, sweeps: float = 0.0, num: int = 30) -> History:
    """Return a history of nine rows; the noise is that of ten processes."""
    drawn = np.random.default_rng(seed)
    revisions = []
    for at in range(num):
        shift = drawn.normal(0, sweeps)
        times = {row: factor(row, at) * math.exp(shift + drawn.normal(0, noise / math.sqrt(10))) for row in ROWS}
        revisions.append(revision(at, side(times, number=at)))
    return history_of(revisions)


@pytest.mark.parametrize(("noise", "sweeps"), [(0.01, 0.0), (0.04, 0.02)])
def test_histories_without_a_change_seldom_show_one(noise: float, sweeps: float) -> None:
    found = [simulated(seed, factor=lambda *_: 1.0, noise=noise, sweeps=sweeps).changes for seed in range(100)]
    assert sum(map(bool, found)) <= 5


def test_a_slowdown_of_all_rows_is_found_at_its_revision_and_told_as_one() -> None:
    right = 0
    for seed in range(40):
        at = 5 + seed % 20
        found = simulated(seed, factor=lambda _, number, at=at: 1.05 if number >= at else 1.0).changes  # type: ignore[misc]
        right += any(abs(one.at - at) <= 1 and one.is_common and one.direction == "worse" for one in found)
    assert right >= 38


def test_a_slowdown_of_one_row_is_told_as_its_own_though_whole_sweeps_differ() -> None:
    history = simulated(1, factor=lambda row, at: 1.05 if (row, at >= 12) == ("c", True) else 1.0, sweeps=0.02)
    (change,) = history.changes
    assert (change.at, change.is_common, change.direction) == (12, False, "worse")
    assert [row.row for row in change.rows] == ["c"]
    assert change.interval is not None
    assert change.interval[0] < 1.05 < change.interval[1]


def test_a_slowdown_of_most_rows_names_them_and_not_the_others() -> None:
    history = simulated(2, factor=lambda row, at: 1.06 if row < "g" and at >= 15 else 1.0)
    (change,) = history.changes
    assert not change.is_common
    assert {row.row for row in change.rows} == set("abcdef")


def test_what_is_mended_is_a_change_for_the_better() -> None:
    history = simulated(3, factor=lambda _, at: 1.05 if 10 <= at < 18 else 1.0)
    assert [(one.at, one.direction) for one in history.changes] == [(10, "worse"), (18, "better")]


def test_a_change_below_the_tolerance_is_not_told() -> None:
    assert not simulated(4, factor=lambda _, at: 1.01 if at >= 15 else 1.0).changes


def test_few_sweeps_are_too_few_for_times_and_enough_for_memory() -> None:
    revisions = [
        revision(at, side({"a": 1.0, "b": 1.0 + at}, number=at, memory=1e9 if at < 2 else 2e9)) for at in range(4)
    ]
    history = history_of(revisions)
    assert not history.has_times
    (change,) = history.changes
    assert (change.at, change.metric, change.is_common, change.ratio) == (2, "memory", True, pytest.approx(2.0))


def test_memory_that_creeps_below_its_tolerance_is_found() -> None:
    revisions = [revision(at, side({"a": 1.0}, number=at, memory=1e9 * 1.003**at)) for at in range(4)]
    assert [(one.at, one.metric) for one in history_of(revisions).changes] == [(2, "memory")]


def test_peaks_that_are_counted_otherwise_are_no_change_and_later_ones_are_compared_with_the_first_of_them() -> None:
    revisions = []
    for at, (peak, is_held) in enumerate([(9, True), (8, False), (8, False), (10, False)]):
        found = side({"a": 1.0}, number=at, memory=1e9 * peak)
        counted = dataclasses.replace(found.configurations["a"], holds_old_gradients=is_held)
        revisions.append(revision(at, dataclasses.replace(found, configurations={"a": counted})))
    assert [(one.at, one.metric, one.ratio) for one in history_of(revisions).changes] == [(3, "memory", 1.25)]


def test_a_row_that_a_revision_lacks_is_a_gap() -> None:
    revisions = [revision(at, side({"a": 1.0} | ({} if at == 1 else {"b": 2.0}), number=at)) for at in range(3)]
    history = history_of(revisions)
    (gapped,) = (row for row in history.rows if row.row == "b")
    assert gapped.figures == (2.0, None, 2.0)
    assert not history.changes


def test_revisions_of_another_machine_are_a_part_of_their_own() -> None:
    machines = ("a card", "another", "a card")
    parts = by_machine(
        revision(at, side({"a": 1.0}, number=at, keys={"device": machine})) for at, machine in enumerate(machines)
    )
    assert [[one.name for one in part] for part in parts] == [["r0", "r2"], ["r1"]]


def test_an_edited_network_is_one_row() -> None:
    revisions = []
    for at, text in enumerate(("a" * 12, "b" * 12)):
        spec = factory.compute_spec(model="nets/mine.py:build", model_id=text)
        record = factory.record_of(spec, steps=factory.steps_of([1.0, 1.0]))
        record = dataclasses.replace(record, started_at=f"2026-11-0{at + 1}T00:00:00+00:00")
        revisions.append(
            Revision(name="1.0", model_id=text, started_at=record.started_at, side=lasting(side_of([record])))
        )
    (times,) = (row for row in history_of(revisions).rows if row.metric == "time")
    assert len(times.figures) == 2
    assert None not in times.figures
