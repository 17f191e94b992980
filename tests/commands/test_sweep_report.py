from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_factory import memory_spec, record_of, training_spec

from vnbench.commands.sweep.report import SweepReport, find_missing_kinds
from vnbench.records.record import Cause, Status, TrialRecord

BOTH = frozenset({"memory", "training"})


def record(kind: str, status: Status = "ok", message: str = "too large") -> TrialRecord:
    spec = training_spec() if kind == "training" else memory_spec(training_spec())
    cause = None if status == "ok" else Cause(kind="exception", message=message)
    return record_of(spec, status=status, cause=cause)


def report(**changes: Any) -> SweepReport:
    values: dict[str, Any] = {
        "out": Path("r.jsonl"),
        "statuses": {"ok": 1},
        "num_not_started": 0,
        "left_out": (),
        "plots": (),
        "elapsed_s": 1.0,
    }
    return SweepReport(**(values | changes))


def test_a_kind_is_missing_of_which_no_trial_was_measured_whatever_the_others_measured() -> None:
    records = [record("memory"), record("training", "crashed", "a.png: is missing"), record("training", "timeout")]
    found = find_missing_kinds(("memory", "training"), records, planned=BOTH)
    assert found == {"training": "1 timeout, 1 crashed; the first: a.png: is missing"}
    assert find_missing_kinds(("memory",), records, planned=BOTH) == {}


def test_a_kind_of_which_one_trial_was_measured_is_not_missing() -> None:
    records = [record("memory"), record("training", "crashed"), record("training")]
    assert find_missing_kinds(("memory", "training"), records, planned=BOTH) == {}


def test_times_that_a_budget_left_no_room_for_are_missing() -> None:
    found = find_missing_kinds(("memory", "training"), [record("memory")], planned=BOTH)
    assert found == {"training": "no trial ended"}


def test_memory_that_cannot_be_counted_and_was_not_planned_is_not_missed() -> None:
    assert find_missing_kinds(("memory", "training"), [record("training")], planned={"training"}) == {}
    assert find_missing_kinds(("memory", "training"), [record("memory")], planned={"memory"}).keys() == {"training"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        ({"missing_kinds": {"training": "2 crashed"}}, 3),
        ({"is_ended_by_image": True}, 3),
        ({"missing_kinds": {"training": "no trial was started"}, "is_dry_run": True}, 0),
    ],
)
def test_the_exit_code_says_whether_what_was_asked_for_was_measured(changes: dict[str, Any], expected: int) -> None:
    assert report(**changes).exit_code == expected


def test_missing_kinds_stand_in_json_with_the_reason() -> None:
    assert report(missing_kinds={"training": "2 crashed"}).to_json()["missing_kinds"] == {"training": "2 crashed"}
