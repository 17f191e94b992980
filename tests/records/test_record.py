from __future__ import annotations

import json
import os
import re
from dataclasses import asdict

import pytest
from record_factory import measured_memory_record, measured_training_record, record_of, training_spec

from vnbench.records.record import SCHEMA_VERSION, Cause, TrialRecord, TrialWarning
from vnbench.records.step_columns import TRIAL_COLUMNS


def test_records_survive_a_round_trip() -> None:
    failed = record_of(
        training_spec(),
        status="oom",
        cause=Cause(kind="torch-out-of-memory", message="too large"),
        warnings=(TrialWarning(code="few-steps", message="only 2"),),
    )
    for record in (measured_training_record(training_spec()), measured_memory_record(training_spec()), failed):
        assert TrialRecord.from_json(record.to_json()) == record


def test_a_file_name_that_is_no_text_leaves_the_record_readable() -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.png")
    cause = Cause(kind="exception", message=f"{name} is broken \N{GRINNING FACE}", detail="\ud800 \\ud800")
    line = record_of(training_spec(), status="crashed", cause=cause).to_json()
    told = TrialRecord.from_json(line).cause
    assert told is not None
    assert told.message == "caf\\xe9 \N{LATIN SMALL LETTER E WITH ACUTE}.png is broken \N{GRINNING FACE}"
    assert TrialRecord.from_json(TrialRecord.from_json(line).to_json()).cause == told


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
    assert set(steps) == set(TRIAL_COLUMNS)
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
    with pytest.raises(ValueError, match=r"not a trial record|does not match|missing required field|schema version"):
        TrialRecord.from_json(json.dumps(values))


def line_with(**parts: object) -> str:
    """Return the line of a training record in which some parts are other ones."""
    return json.dumps(json.loads(measured_training_record(training_spec()).to_json()) | parts)


def memory_with(**changes: object) -> dict[str, object]:
    memory = measured_memory_record(training_spec()).memory
    assert memory is not None
    return asdict(memory) | changes


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"memory": memory_with(peak_allocated_bytes="1")}, "memory.peak_allocated_bytes: expected `int | null`"),
        ({"memory": memory_with(peak_allocated_bytes=1.5)}, "memory.peak_allocated_bytes: expected `int | null`"),
        ({"memory": memory_with(num_operators=True)}, "memory.num_operators: expected `int | null`, got `bool`"),
        ({"memory": memory_with(peak_allocated_bytes=-1)}, "memory.peak_allocated_bytes: expected `int` >= 0"),
        ({"memory": memory_with(capacity_bytes=10**18 + 1)}, "memory.capacity_bytes: expected `int` <= 100000"),
        ({"memory": {}}, "memory: object missing required field `instrument`"),
        ({"steps": 3}, "steps: expected `object | null`"),
        ({"steps": {"loss": [0.5, "0.5"]}}, "steps.loss[1]: expected `int | float | null`, got `str`"),
        ({"steps": {"is_warm_up": [0]}}, "steps.is_warm_up[0]: expected `bool`, got `int`"),
        ({"steps": {"step_time_s": [None, -1.0]}}, "steps.step_time_s[1]: expected `float` >= 0"),
        ({"steps": {"forward_s": [True]}}, "steps.forward_s[0]: expected `int | float | null`, got `bool`"),
        ({"replicate": 1.5}, "replicate: expected `int`"),
        ({"attempt": -1}, "attempt: expected `int` >= 0"),
        ({"status": "fine"}, "status: invalid enum value 'fine'"),
        ({"started_at": "yesterday"}, "started_at 'yesterday' is not an ISO 8601 time"),
        ({"environment": []}, "environment: expected `object`"),
        ({"environment": {"num_cpus": "4"}}, "environment.num_cpus: expected `int`, got `str`"),
        ({"environment": {"isa_variables": {"A": 1}}}, "environment.isa_variables[...]: expected `str`"),
        (
            {"telemetry": {"device": {"power_w": {"mean": None}}}},
            "telemetry.device.power_w.mean: expected `int | float`",
        ),
        ({"telemetry": {"host": {"num_cpus": 1.5}}}, "telemetry.host.num_cpus: expected `int`"),
        ({"warnings": [{"code": "few-steps"}]}, "warnings[0]: object missing required field `message`"),
        ({"cause": {"kind": "exception", "message": "\ud800"}}, "JSON is malformed"),
        ({"elapsed_s": float("nan")}, "JSON is malformed"),
        ({"spec": training_spec().flat() | {"batch_size": True}}, "spec.batch_size: expected `int`, got `bool`"),
        ({"spec": training_spec().flat() | {"seed": 0.5}}, "spec.seed: expected `int`"),
        ({"spec": training_spec().flat() | {"device": "tpu"}}, "spec.device: invalid enum value 'tpu'"),
        ({"spec": training_spec().flat() | {"micro_batch_size": 3}}, "spec: micro_batch_size 3 must divide"),
        ({"spec": training_spec().flat() | {"batch_sise": 1}}, "unknown spec field batch_sise"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name_of_its_field(parts: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        TrialRecord.from_json(line_with(**parts))


def test_numbers_are_written_as_they_were_read() -> None:
    for seconds in (60, 60.0):
        record = measured_training_record(training_spec(noise_target=0.01, max_epochs=4, max_measuring_s=seconds))
        again = TrialRecord.from_json(record.to_json())
        assert again.to_json() == record.to_json()
        assert again.spec_id == record.spec_id
    warned = record_of(
        training_spec(), warnings=(TrialWarning(code="few-steps", message="", figures={"num_steps": 2, "share": 0.5}),)
    )
    assert TrialRecord.from_json(warned.to_json()).to_json() == warned.to_json()


def test_what_a_later_version_adds_is_left_out_and_its_facts_of_the_machine_are_kept() -> None:
    memory, steps = memory_with(new_bytes=1), {"is_warm_up": [True], "new": ["x"]}
    record = TrialRecord.from_json(line_with(new=2, memory=memory, steps=steps, environment={"new": 1}))
    assert record.memory == measured_memory_record(training_spec()).memory
    assert record.steps == {"is_warm_up": (True,)}
    assert record.environment == {"new": 1}


GARBAGE = [
    "",
    "{",
    "[]",
    "null",
    "\x00",
    '{"environment":' + "[" * 100_000,
    b'{"environment":"\xff"}',
    '{"elapsed_s":1e999}',
]


@pytest.mark.parametrize("line", GARBAGE)
def test_garbage_is_refused(line: str | bytes) -> None:
    with pytest.raises(ValueError, match="not "):
        TrialRecord.from_json(line)
