"""Networks of one's own whose text changed are compared by FILE.py:FUNCTION."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import record_factory as factory

from vnbench.analysis.comparison.compare import compare
from vnbench.analysis.comparison.identity import lasting_id
from vnbench.analysis.comparison.sides import Side, side_of
from vnbench.cli.app import run
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec

NETWORK = "nets/mine.py:build"


def spec_of(text: str, *, name: str = NETWORK, precision: str = "fp32") -> TrialSpec:
    return factory.compute_spec(model=name, model_id=text, precision=precision)


def records_of(text: str, *, slower: float = 1.0, name: str = NETWORK) -> list[TrialRecord]:
    """Return trials of two configurations of a network in five processes each."""
    return [
        factory.record_of(
            spec_of(text, name=name, precision=precision),
            steps=factory.steps_of([slower * (1 + 0.001 * replicate)] * 2),
            replicate=replicate,
        )
        for precision in ("fp32", "bf16")
        for replicate in range(5)
    ]


def side(text: str, *, slower: float = 1.0, name: str = NETWORK) -> Side:
    return side_of(records_of(text, slower=slower, name=name))


def test_an_edited_network_that_is_no_slower_passes_and_is_told() -> None:
    comparison = compare(side("aaaaaaaaaaaa"), side("bbbbbbbbbbbb", slower=0.999))
    assert comparison.outcome == "pass"
    assert not comparison.notes
    assert not comparison.not_in_baseline
    (remark,) = comparison.remarks
    assert remark.startswith(f"{NETWORK}: its text changed (aaaaaaaaaaaa before, bbbbbbbbbbbb after)")


def test_an_edited_network_that_is_slower_is_a_regression_and_its_rows_carry_both_ids() -> None:
    comparison = compare(side("aaaaaaaaaaaa"), side("bbbbbbbbbbbb", slower=1.5))
    assert comparison.outcome == "regression"
    ids = {(row.spec_id, row.candidate_spec_id) for row in comparison.rows if row.spec is not None}
    assert ids == {
        (spec_of("aaaaaaaaaaaa", precision=one).spec_id, spec_of("bbbbbbbbbbbb", precision=one).spec_id)
        for one in ("fp32", "bf16")
    }
    assert all(before != after for before, after in ids)


def test_an_unchanged_network_is_not_remarked_on_and_has_one_id() -> None:
    comparison = compare(side("aaaaaaaaaaaa"), side("aaaaaaaaaaaa"))
    assert comparison.outcome == "pass"
    assert not comparison.remarks
    assert {row.spec_id for row in comparison.rows} - {"all"} == {
        row.candidate_spec_id for row in comparison.rows if row.spec is not None
    }


@pytest.mark.parametrize("other", ["nets/mine.py:other", "nets/theirs.py:build"])
def test_a_network_of_another_name_is_missing(other: str) -> None:
    comparison = compare(side("aaaaaaaaaaaa"), side("bbbbbbbbbbbb", name=other))
    assert {row.verdict for row in comparison.rows} == {"missing"}
    assert comparison.outcome == "undecided"


def test_equal_texts_match_before_edited_ones() -> None:
    both = side_of([*records_of("aaaaaaaaaaaa"), *records_of("bbbbbbbbbbbb", slower=2.0)])
    comparison = compare(side("aaaaaaaaaaaa"), both)
    assert comparison.outcome == "pass"
    assert len(comparison.not_in_baseline) == 2


def test_several_texts_on_one_side_are_named_and_not_matched() -> None:
    both = side_of([*records_of("bbbbbbbbbbbb"), *records_of("cccccccccccc")])
    for before, after in ((side("aaaaaaaaaaaa"), both), (both, side("aaaaaaaaaaaa"))):
        comparison = compare(before, after)
        assert comparison.outcome == "undecided"
        (note,) = comparison.notes
        assert note.startswith(f"{NETWORK}: one side has several texts of it")


def test_only_the_text_of_a_network_is_left_out_of_its_lasting_id() -> None:
    spec = spec_of("aaaaaaaaaaaa")
    assert lasting_id(spec) == lasting_id(spec_of("bbbbbbbbbbbb"))
    assert lasting_id(spec) != lasting_id(dataclasses.replace(spec, seed=1))
    assert lasting_id(factory.compute_spec()) == factory.compute_spec().spec_id


def test_a_baseline_file_holds_one_text_of_a_network_and_is_compared_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = tmp_path / "baseline.json"
    for text, slower in (("aaaaaaaaaaaa", 1.0), ("bbbbbbbbbbbb", 1.001), ("cccccccccccc", 0.5)):
        path = tmp_path / f"{text}.jsonl"
        path.write_text("".join(f"{one.to_json()}\n" for one in records_of(text, slower=slower)), encoding="utf-8")
        if baseline.exists():
            assert run(["gate", str(baseline), str(path), "--json"]) == 0
            report = json.loads(capsys.readouterr().out)
            assert report["outcome"] == "pass"
            assert len(report["remarks"]) == 1
            assert all(row["candidate_spec_id"] != row["spec_id"] for row in report["rows"] if row["spec_id"] != "all")
        assert run(["gate", str(baseline), str(path), "--update"]) == 0
        capsys.readouterr()
        (device,) = json.loads(baseline.read_text(encoding="utf-8"))["devices"].values()
        assert set(device["configurations"]) == {
            spec_of(text, precision=precision).spec_id for precision in ("fp32", "bf16")
        }
        # Noise changes no figure, whatever the text is.
        values = {one["figures"]["time"]["value"] for one in device["configurations"].values()}
        assert values == ({1.002} if slower > 0.6 else {0.501})
