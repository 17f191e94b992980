from __future__ import annotations

import re
import shutil
from pathlib import Path

import findings_report
import pytest
from findings_memory import autocast
from findings_questions import QUESTIONS
from findings_run import levers, planned, recipe_of
from findings_sources import NotMeasured, Sources

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results/cpu-amd-epyc"


@pytest.fixture(scope="module")
def sources() -> Sources:
    return Sources(RESULTS)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("findings")
    assert findings_report.main([str(RESULTS), "--out", str(out)]) == 0
    (report,) = out.glob("findings_cpu-amd-epyc_*.md")
    return report.read_text()


def test_every_question_is_answered_from_the_records_that_ship(text: str) -> None:
    for number, question in enumerate(QUESTIONS, start=1):
        assert f"## {number}. {question.title}" in text
    assert "Not measured here" not in text
    assert "do not answer" not in text
    assert not re.search(r"\b(nan|inf|None)\b", text)


def test_the_commands_under_an_answer_exist(text: str) -> None:
    commands = re.findall(r"^(?:vnbench|python) .*$", text, flags=re.MULTILINE)
    assert len(commands) > len(QUESTIONS)
    for command in commands:
        for path in re.findall(r"benchmarks/\S+", command):
            assert (ROOT / path).exists(), path


def test_the_recipe_is_the_largest_whole_batch_of_the_accounts_levers(sources: Sources) -> None:
    report = planned(sources)
    recipe = recipe_of(report)
    assert recipe is not None
    assert (recipe.levers["precision"], recipe.levers["checkpointing"]) == ("bf16", "stages")
    assert recipe.levers["sampler"] == "random"
    assert recipe.levers["batch_size"] == recipe.levers["micro_batch_size"] == 16
    assert recipe.finish.p50 > report.recommended.finish.p50


def test_levers_are_compared_with_the_best_one_at_a_time(sources: Sources) -> None:
    (_, lines) = levers(sources)
    rows = [line for line in lines.splitlines() if line.startswith("| ")]
    assert len(rows) > 5
    assert "| 1 |" in rows[1]


def test_autocast_is_told_for_both_norms_beside_fp32(sources: Sources) -> None:
    lines = autocast(sources)
    assert any("norm in fp32" in line for line in lines[1:])
    assert any("norm in input precision takes" in line and "less memory" in line for line in lines[1:])


def test_what_was_not_measured_is_said_with_the_command_that_measures_it(tmp_path: Path) -> None:
    folder = tmp_path / "cpu-x"
    folder.mkdir()
    shutil.copy(RESULTS / "readme.jsonl", folder)
    assert findings_report.main([str(folder), "--out", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("findings_cpu-x_*.md")
    text = report.read_text()
    assert f"Not measured here: {folder}/groupnorm.json is missing." in text
    assert f"vnbench sweep --config benchmarks/definitions/wallclock.toml --out {folder}/wallclock.jsonl" in text
    with pytest.raises(NotMeasured, match="memory"):
        Sources(folder).path("memory")


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        findings_report.main([str(tmp_path), "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "holds no records" in capsys.readouterr().err
