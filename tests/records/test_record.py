from __future__ import annotations

import json

import pytest
from record_factory import measured_memory_record, measured_training_record, record_of, training_spec

from vnbench.records.record import SCHEMA_VERSION, STEP_COLUMNS, Cause, TrialRecord, TrialWarning


def test_records_survive_a_round_trip() -> None:
    failed = record_of(
        training_spec(),
        status="oom",
        cause=Cause(kind="torch-out-of-memory", message="too large"),
        warnings=(TrialWarning(code="few-steps", message="only 2"),),
    )
    for record in (measured_training_record(training_spec()), measured_memory_record(training_spec()), failed):
        assert TrialRecord.from_json(record.to_json()) == record


def test_a_line_holds_the_keys_that_others_rely_on() -> None:
    values = json.loads(measured_training_record(training_spec()).to_json())
    promised = (
        "schema_version spec_id replicate attempt trial_id kind spec status cause environment steps memory telemetry "
        "warnings started_at elapsed_s"
    )
    assert set(promised.split()) <= set(values)
    assert values["schema_version"] == SCHEMA_VERSION
    assert "\n" not in measured_training_record(training_spec()).to_json()


def test_step_columns_are_the_documented_ones_and_equally_long() -> None:
    steps = measured_training_record(training_spec()).steps
    assert steps is not None
    assert set(steps) == set(STEP_COLUMNS)
    assert len({len(column) for column in steps.values()}) == 1


def test_nan_is_no_json() -> None:
    record = record_of(training_spec(), environment={"load": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.to_json()


@pytest.mark.parametrize(
    "change",
    [{"trial_id": "0" * 12}, {"status": "fine"}, {"spec": {"kind": "training"}}, {"schema_version": 99}, {"steps": 3}],
)
def test_a_line_that_is_no_record_is_refused(change: dict[str, object]) -> None:
    values = json.loads(record_of(training_spec()).to_json()) | change
    with pytest.raises(ValueError, match=r"not a trial record|does not match|unknown status|schema version"):
        TrialRecord.from_json(json.dumps(values))


@pytest.mark.parametrize("line", ["", "{", "[]", "null", "\x00"])
def test_garbage_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not "):
        TrialRecord.from_json(line)
