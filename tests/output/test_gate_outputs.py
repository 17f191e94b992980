from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import record_factory as factory
from rich.console import Console

from vnbench.analysis.comparison.compare import Comparison, compare
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of, side_of
from vnbench.output.gate.ci import github_annotations, gitlab_code_quality, junit_xml
from vnbench.output.gate.markdown import gate_markdown
from vnbench.output.gate.table import MAX_SAME_ROWS, gate_table
from vnbench.output.gate.words import figure, names_of

HOSTILE = "bench <script>alert(1)</script> | `x` [link](http://a) @all\n\x00::error::x"


def named(name: str, *, slow: float = 1.0, statuses: int = 3) -> Side:
    times = [slow, 1.001 * slow, 1.002 * slow]
    return Side(
        keys={},
        configurations={name: Configuration(name=name, figures={"time": figure_of(times[:statuses], metric="time")})},
    )


def regression(name: str = "a") -> Comparison:
    return compare(named(name), named(name, slow=1.5))


def text_of(comparison: Comparison, *, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(gate_table(comparison, about=("old.jsonl", "new.jsonl")))
    return console.export_text()


def test_the_table_names_the_row_its_figures_and_what_follows() -> None:
    text = text_of(regression())
    assert "worse" in text
    assert "+50.00 %" in text
    assert "regression: 1 worse of 1 row" in text
    assert "baseline: old.jsonl" in text


def test_rows_that_are_the_same_are_left_out_of_a_long_table() -> None:
    sides = [
        Side(
            keys={},
            configurations={
                f"b{index}": Configuration(
                    name=f"b{index}",
                    figures={
                        "time": figure_of([(factor if index == 7 else 1.0) * x for x in (1, 1.001)], metric="time")
                    },
                )
                for index in range(40)
            },
        )
        for factor in (1.0, 2.0)
    ]
    text = text_of(compare(*sides))
    assert "b7" in text
    assert "b8" not in text
    assert "because nothing changed: 39 rows." in text


def test_a_long_table_in_which_nothing_changed_has_no_header_without_rows() -> None:
    side = side_of(
        [factory.measured_memory_record(factory.training_spec(batch_size=size)) for size in range(1, MAX_SAME_ROWS + 2)]
    )
    text = text_of(compare(side, side))
    assert "because nothing changed" in text
    assert "verdict" not in text.splitlines()[0]


def test_configurations_are_named_by_the_levers_in_which_those_of_their_kind_differ() -> None:
    records = [
        factory.measured_training_record(factory.training_spec()),
        factory.measured_training_record(factory.training_spec(precision="bf16")),
        factory.measured_memory_record(factory.training_spec()),
    ]
    names = names_of(compare(side_of(records), side_of(records)).rows)
    assert set(names.values()) == {"all configurations", "training: fp32", "training: bf16", "memory trial"}


def test_padding_is_a_share_of_all_pixels_as_in_a_sweep() -> None:
    assert figure(1.25, metric="padding") == "20.00 %"


def test_junit_has_a_case_for_each_row_and_fails_those_that_are_worse() -> None:
    root = ElementTree.fromstring(junit_xml(regression(), excuses_noise=False))
    (suite,) = root
    assert suite.attrib | {"name": ""} == {"name": "", "tests": "1", "failures": "1", "errors": "0", "skipped": "0"}
    ((case,),) = root
    assert case.get("classname") == "vnbench.a"
    assert case[0].tag == "failure"


def test_junit_counts_an_ambiguous_row_as_an_error_unless_it_is_put_up_with() -> None:
    comparison = compare(named("a", statuses=1), named("a", slow=1.1, statuses=1))
    assert '<error type="ambiguous"' in junit_xml(comparison, excuses_noise=False)
    assert '<skipped type="ambiguous"' in junit_xml(comparison, excuses_noise=True)


def test_a_row_that_is_worse_makes_no_error_of_noise_that_is_excused() -> None:
    worse, noisy = regression().rows[0], compare(named("a", statuses=1), named("a", slow=1.1, statuses=1)).rows[0]
    (suite,) = ElementTree.fromstring(junit_xml(Comparison(rows=(worse, noisy)), excuses_noise=True))
    assert suite.attrib | {"name": ""} == {"name": "", "tests": "2", "failures": "1", "errors": "0", "skipped": "1"}


def test_what_cannot_be_compared_is_a_case_of_its_own() -> None:
    comparison = Comparison(rows=(), differing=("torch: baseline 1, candidate 2",))
    root = ElementTree.fromstring(junit_xml(comparison, excuses_noise=False))
    assert root[0].get("errors") == "1"
    assert github_annotations(comparison, is_warning=False)[0].startswith("::error")
    assert "torch: baseline 1" in gitlab_code_quality(comparison, path="b.json")


def test_nothing_in_a_name_is_taken_for_markup() -> None:
    comparison = regression(HOSTILE)
    case = ElementTree.fromstring(junit_xml(comparison, excuses_noise=False))[0][0]
    assert "<script>" in (case.get("classname") or "")
    markdown = gate_markdown(comparison, about=(HOSTILE, "b"))
    assert "<script>" not in markdown
    assert "[link]" not in markdown
    assert " @all" not in markdown
    (line,) = (line for line in markdown.splitlines() if line.startswith("| **worse** | bench"))
    assert line.replace(r"\|", "").count("|") == 9
    for annotation in github_annotations(comparison, is_warning=False):
        assert "\n" not in annotation
    assert "alert(1)" in json.loads(gitlab_code_quality(comparison, path="b.json"))[0]["description"]
    assert "alert(1)" in text_of(comparison)


def test_code_quality_names_its_place_and_has_a_lasting_fingerprint() -> None:
    (first,) = json.loads(gitlab_code_quality(regression(), path="baseline.json"))
    (again,) = json.loads(gitlab_code_quality(compare(named("a"), named("a", slow=1.6)), path="baseline.json"))
    assert first["location"] == {"path": "baseline.json", "lines": {"begin": 1}}
    assert first["severity"] == "major"
    assert first["fingerprint"] == again["fingerprint"]
