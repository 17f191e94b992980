"""``vnbench report`` and ``plot`` of forecasts; the records of cards are made here, and nothing was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import record_factory as factory
from report_page import without_figures

from vnbench.analysis.findings import Findings
from vnbench.cli.app import run
from vnbench.records.record import TrialRecord


def write(path: Path, records: Sequence[TrialRecord]) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


def forecasts(*cards: str) -> list[TrialRecord]:
    """Return forecasts of two micro-batches for each card."""
    return [
        factory.forecast_record(factory.forecast_spec(card=card, micro_batch_size=size, norm_precision="fp32"))
        for card in cards
        for size in (1, 4)
    ]


def report(records: str, folder: Path, *options: str) -> tuple[str, str]:
    """Return the report as Markdown, its lines joined, and the page."""
    assert run(["report", records, "--out", str(folder), "--examples", "500", *options]) == 0
    markdown, page = ((folder / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    return " ".join(markdown.split()), page


@pytest.fixture(name="_no_figures")
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    without_figures(monkeypatch)


@pytest.mark.usefixtures("_no_figures")
def test_a_report_shows_several_cards_side_by_side_and_plans_on_the_one_that_is_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", forecasts("H200", "L4"))
    told, page = report(path, tmp_path / "both")
    assert told.startswith("# What training veernet would take on H200 and L4 (forecast)")
    assert "H200: 500 examples x 50 epochs take" in told
    assert "L4: 500 examples x 50 epochs take" in told
    assert "No plan: a plan is for one card, and these are forecasts for H200, L4; write --card H200" in told
    assert "## How it was forecast" in told
    assert "Each trial ran alone" not in told
    # The page has the planner of one card, and tells of the other.
    assert page.count('id="planner-tables"') == 1
    assert "It plans for <strong>H200</strong>" in page
    assert "another card of this page: L4." in page
    assert 'f.jsonl --card H200"' in page
    table = told.split("## Forecasts")[1].split("## All trials")[0]
    assert table.count("| H200 |") == table.count("| L4 |") == 1
    assert "| forecast | L4: batch 4 | 1 | 1 | ok | | 0.131 to 0.492 | 18.8 to 22.5 GiB |" in told

    told, page = report(path, tmp_path / "one", "--card", "l4")
    assert told.startswith("# What training veernet would take on L4 (forecast)")
    assert "Evidence: forecast." in told
    assert "H200" not in told
    assert 'id="planner-tables"' in page
    assert "vnbench plan" in page
    assert "It plans for" not in page
    assert "--card l4" in page
    told, page = report(path, tmp_path / "two", "--card", "l4,h200")
    assert told.startswith("# What training veernet would take on H200 and L4 (forecast)")
    assert 'f.jsonl --card H200"' in page


@pytest.mark.usefixtures("_no_figures")
def test_the_planner_of_several_cards_is_that_of_the_first_with_which_a_run_can_be_planned(tmp_path: Path) -> None:
    broken = replace(factory.forecast_record(factory.forecast_spec(card="H200")), card=None, status="crashed")
    _, page = report(write(tmp_path / "f.jsonl", [broken, *forecasts("L4", "A10")]), tmp_path / "report")
    assert "It plans for <strong>L4</strong>" in page
    assert "another card of this page: H200, A10." in page
    assert 'f.jsonl --card L4"' in page
    _, page = report(
        write(tmp_path / "n.jsonl", [broken, replace(broken, spec=replace(broken.spec, card="L4"))]), tmp_path / "none"
    )
    assert 'id="planner-tables"' not in page


@pytest.mark.usefixtures("_no_figures")
def test_measured_trials_stand_beside_the_forecasts_of_their_card_with_residuals(tmp_path: Path) -> None:
    measured = factory.gpu_campaign()
    path = write(tmp_path / "r.jsonl", [*forecasts("H200", "L4"), *measured])
    told, page = report(path, tmp_path / "report")
    assert told.startswith("# What training veernet costs on NVIDIA H200")
    assert "Evidence: interpolated." in told
    assert 'id="planner-tables"' in page
    table = told.split("The same configurations on the card itself:")[1].split("## All trials")[0]
    rows = [row for row in table.split("| H200 |")[1:] if "outside" in row or "inside" in row]
    # Two micro-batches: times on two canvases, and what the allocator held and reserved in the worst case.
    assert len(rows) == 8
    assert "| L4 | 1 |" not in table
    for text in (told, page):
        assert "measured figures inside the bracket" in text
    # The forecasts say nothing of what was measured.
    alone, _ = report(write(tmp_path / "m.jsonl", measured), tmp_path / "alone")
    plan = told.split("## The planned run")[1].split("## Notes")[0]
    assert plan == alone.split("## The planned run")[1].split("## Notes")[0]


def test_a_card_of_ones_own_is_chosen_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "f.jsonl", forecasts("My card", "H200"))
    assert run(["plan", path, "--card", "my card", "--examples", "500", "--epochs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "My card (forecast)"
    for command in ("plan", "report", "plot"):
        out = [] if command == "plan" else ["--out", str(tmp_path / command)]
        assert run([command, path, *out, "--card", "l4", "--examples", "500", "--epochs", "2"]) == 2
        assert "--card l4: " in capsys.readouterr().err
    assert run(["plan", path, "--card", "h200,my card", "--examples", "500", "--epochs", "2"]) == 2
    assert "a plan is for one card" in capsys.readouterr().err


def test_a_plan_on_one_of_several_cards_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "f.jsonl", forecasts("H200", "L4"))
    plan = ["export", path, "--what", "plan", "--examples", "500", "--format", "json"]
    assert run([*plan, "--card", "l4"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["evidence"] for row in rows} == {"forecast"}
    assert run(plan) == 2
    assert "holds forecasts for H200, L4; write --card H200" in capsys.readouterr().err


def test_the_figures_of_several_cards_are_their_brackets_and_of_one_its_plan_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "f.jsonl", forecasts("H200", "L4"))
    assert run(["plot", path, "--out", str(tmp_path / "both"), "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert {Path(file).stem for file in drawn["plots"]} == {"forecast"}
    assert all("write --card H200" in line for line in drawn["left_out"])
    assert run(["plot", path, "--out", str(tmp_path / "one"), "--card", "h200", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    names = {Path(file).stem for file in drawn["plots"]}
    assert {"forecast", "wall_clock", "pareto", "interruptions"} <= names
    text = (tmp_path / "one" / "wall_clock.svg").read_text(encoding="utf-8")
    assert "planned from forecasts" in text
    assert "planned from measured trials" not in text


def test_runs_of_a_team_that_were_forecast_are_hatched_and_need_no_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, out = tmp_path / "runs.toml", tmp_path / "figures"
    runs.write_text('cards = 2\n[[run]]\nname = "one"\nexamples = 500\nepochs = 5\n', encoding="utf-8")
    monkeypatch.setattr(
        "vnbench.commands.plan.team.forecasts_for", lambda flags, card: Findings(forecasts(card.upper()))
    )
    assert run(["plan", "--card", "h200", "--runs", str(runs), "--out", str(out), "--json"]) == 0
    (planned,) = json.loads(capsys.readouterr().out)["runs"]
    assert planned["recommended"]["evidence"] == "forecast"
    assert "Hatched: forecast, not measured" in " ".join((out / "schedule.svg").read_text(encoding="utf-8").split())
