from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_factory import measured_training_record, record_of, training_spec

from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.records.record import TrialRecord
from vnbench.records.step_columns import STEP_COLUMNS, TRIAL_COLUMNS
from vnbench.records.store import load_results

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**19),
    st.floats(allow_infinity=True, allow_nan=True),
    st.sampled_from(["", "1", "null", "[", "}", '"steps":{"is_warm_up":[]}']),
    st.just([]),
    st.just({}),
)


def line_with(steps: object, **parts: object) -> bytes:
    """Return the line of a training record with other steps."""
    values = json.loads(measured_training_record(training_spec()).to_json()) | {"steps": steps} | parts
    return json.dumps(values, separators=(",", ":")).encode()


def test_steps_of_a_file_are_those_that_were_written(tmp_path: Path) -> None:
    record, path = measured_training_record(training_spec()), tmp_path / "r.jsonl"
    path.write_text(f"{record.to_json()}\n{record_of(training_spec(seed=1)).to_json()}\n")
    loaded, without = load_results(path).records
    assert loaded == record
    assert loaded.to_json() == record.to_json()
    assert loaded.steps is not None
    assert tuple(loaded.steps) == TRIAL_COLUMNS
    assert without.steps is None


@given(
    st.dictionaries(st.sampled_from([*STEP_COLUMNS, "new"]), st.lists(VALUES, max_size=3) | VALUES),
    st.booleans(),
    st.sampled_from([{}, {"environment": {"steps": {"is_warm_up": [True]}}}, {"status": "fine"}]),
)
def test_what_does_not_fit_is_refused_at_reading_or_at_use_but_never_told(
    steps: dict[str, Any], in_order: bool, parts: dict[str, object]
) -> None:
    if in_order:
        steps = {"is_warm_up": [True]} | {name: steps[name] for name in STEP_COLUMNS[1:] if name in steps}
    line = line_with(steps, **parts)
    expected: object = None
    try:
        expected = TrialRecord.from_json(line)
    except ValueError as error:
        refused = str(error)
        with pytest.raises((ValueError, InputError)) as told:
            dict(TrialRecord.from_json(line, where="r.jsonl, line 1").steps or {})
        if isinstance(told.value, InputError):
            assert refused.removeprefix("not a trial record: steps").split(":")[0] in str(told.value)
        else:
            assert str(told.value) == refused
    else:
        assert TrialRecord.from_json(line, where="r.jsonl, line 1") == expected


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("[0.5,1000000000000000000000.5]", "steps.step_time_s[1]: expected `float` <= 1"),
        ("[0.5,1-]", "steps: JSON is malformed"),
        ("[0.5,,1.5]", "steps: JSON is malformed"),
        ("[1.5,1e5,-3e-1]", "steps.step_time_s[2]: expected `float` >= 0"),
    ],
)
def test_a_number_that_only_reading_it_shows_is_refused_at_first_use(
    column: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    good = measured_training_record(training_spec())
    line = line_with(dict(good.steps or {}) | {"step_time_s": "HERE"}).decode().replace('"HERE"', column)
    path.write_text(f"{good.to_json()}\n{line}\n")
    (_, record) = load_results(path).records
    assert record.steps is not None
    with pytest.raises(InputError) as refused:
        record.steps["step_time_s"]
    assert str(refused.value).startswith(f"{path}, line 2: {field}")
    assert run(["report", str(path), "--out", str(tmp_path / "report")]) == 2
    assert f"{path}, line 2: {field}" in capsys.readouterr().err
    assert not (tmp_path / "report" / "report.md").exists()
