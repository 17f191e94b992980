from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
from matplotlib.figure import Figure
from report_page import without_figures
from suggestions import commands_in, pasted_sweep

from vnbench.cli.app import run
from vnbench.output.plots import figures
from vnbench.output.plots.style import new_figure
from vnbench.output.words.commands import sweep_command
from vnbench.output.words.provenance import Provenance
from vnbench.records.readings import EqualityReading
from vnbench.records.record import Cause, TrialRecord, TrialWarning
from vnbench.units import count

HOSTILE = "<script>alert(1)</script> | [x](javascript:y) `z`\n# heading"


def write(path: Path, records: Sequence[TrialRecord]) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


def report(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["report", *arguments, "--json"]) == 0
    written: dict[str, Any] = json.loads(capsys.readouterr().out)
    return written


@pytest.fixture(name="results", scope="module")
def _results(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("records") / "sweep.jsonl", factory.cuda_sweep())


@pytest.fixture(name="folder", scope="module")
def _folder(results: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a report; drawing one takes seconds."""
    folder = tmp_path_factory.mktemp("report")
    assert run(["report", results, "--out", str(folder), "--interruptions", "2"]) == 0
    return folder


def test_a_report_is_markdown_html_and_figures(folder: Path) -> None:
    markdown, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    for text in (markdown, page):
        assert "15,000 examples" in text
        assert "Probability" in text
        assert "What training veernet costs on NVIDIA H200" in text
        assert ", images of 640 x 12,800 px" in text
        assert "The planned run is the published one; for yours give --examples and --epochs" in text
        assert "How it was measured" in text
        assert "in these commands write --images DIR in place of --widths and --heights" in text.split("Fitted")[0]
        assert "What it does not tell" in text
        assert "vnbench report" in re.sub("</?span[^>]*>", "", text)
    for figure in re.findall(r"!\[.*?\]\((.*?)\)", markdown):
        assert (folder / figure).is_file()
    names = {path.name for path in folder.iterdir()}
    assert {"wall_clock.png", "pareto.png", "interruptions.png", "snapshot_interval.png", "peak_memory.svg"} <= names
    parts = ("The answer", "Planner</h2>", "<h2>Levers", "<h2>The planned run", "<h2>Figures", "<h2>All trials")
    assert sorted(parts, key=page.index) == list(parts)
    assert markdown.index("Answer: ") < markdown.index("(effects.png)") < markdown.index("## The planned run")


def test_the_page_loads_nothing_from_elsewhere(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "@import" not in page
    assert "url(" not in page
    assert "fetch(" not in page


def test_every_trial_is_a_row_with_its_status_and_cause(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    records = factory.cuda_sweep()
    assert page.count('<tr class="bad">') == sum(record.status != "ok" for record in records)
    body = page.split('id="trials"')[1].split("<tbody>")[1].split("</tbody>")[0]
    assert body.count("<tr") == len(records)
    assert "torch-out-of-memory" in body
    lines = (folder / "report.md").read_text().split("## All trials")[1].split("## Machine and software")[0]
    rows = [line for line in lines.splitlines() if line.startswith("|")]
    assert len(rows) == len(records) + 2
    assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1


def test_the_same_records_give_the_same_bytes(results: str, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    assert run(["report", results, "--out", str(folder), "--interruptions", "2"]) == 0
    assert {path.name: path.read_bytes() for path in sorted(folder.iterdir())} == before


@pytest.fixture(name="_no_figures")
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing, which takes seconds, where a test is about text."""
    without_figures(monkeypatch)


@pytest.mark.usefixtures("_no_figures")
def test_nothing_in_a_record_is_taken_for_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = list(factory.cpu_sweep())
    environment = dict(factory.CPU_ENVIRONMENT) | {"device_name": HOSTILE, "note": HOSTILE}
    records = [dataclasses.replace(record, environment=environment) for record in records]
    records[0] = dataclasses.replace(records[0], status="crashed", cause=Cause(kind="exception", message=HOSTILE))
    written = report([write(tmp_path / "h.jsonl", records), "--out", str(tmp_path / "o")], capsys)
    page, markdown = (Path(written[name]).read_text(encoding="utf-8") for name in ("html", "markdown"))
    assert "<script>alert" not in page
    assert "<script>" not in markdown
    assert "\n# heading" not in markdown
    assert "[x]" not in markdown


@pytest.mark.usefixtures("_no_figures")
def test_records_that_no_run_can_be_planned_from_still_make_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "f.jsonl", [factory.record_of(factory.training_spec(), status="oom")])
    page = Path(report([path, "--out", str(tmp_path / "o")], capsys)["html"]).read_text(encoding="utf-8")
    assert "No plan: " in page
    assert "made to end oom" in page


def test_bad_input_is_refused(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for arguments, message in (
        ([results, "--out", str(tmp_path / "file")], "this is a file"),
        ([results, "--out", str(tmp_path), "--epochs", "0"], "--epochs"),
        ([str(tmp_path / "none.jsonl"), "--out", str(tmp_path)], "none.jsonl"),
        ([results, write(tmp_path / "c.jsonl", factory.cpu_sweep()), "--out", str(tmp_path)], "one device"),
    ):
        assert run(["report", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("_no_figures")
def test_the_notes_say_which_kinds_of_trial_are_in_doubt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = TrialWarning(code="busy-cores", message="other programs used 1.3 of 2 cores")
    records = [
        factory.measured_training_record(factory.training_spec(batch_size=size), warnings=(busy,)) for size in (1, 2, 4)
    ]
    written = report([write(tmp_path / "r.jsonl", records), "--out", str(tmp_path / "o")], capsys)
    for page in written["html"], written["markdown"]:
        notes = Path(page).read_text(encoding="utf-8").split("Notes")[1].split("Figures")[0]
        assert "Training trials: 3 of 3 configurations" in notes
        assert "other programs used 1.3 of 2 cores" in notes


@pytest.mark.usefixtures("_no_figures")
def test_a_line_through_two_sizes_is_not_told_as_a_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = factory.compute_spec(canvas_sizes=((480, 3200), (640, 12_800)))
    records = [factory.measured_compute_record(spec) for spec in (two, factory.compute_spec(micro_batch_size=4))]
    written = report([write(tmp_path / "r.jsonl", records), "--out", str(tmp_path / "o")], capsys)
    for page in written["html"], written["markdown"]:
        fits = Path(page).read_text(encoding="utf-8").split("Fitted step times")[1].split("All trials")[0]
        assert "micro-batch 4" in fits
        assert "micro-batch 1" not in fits
        assert "Not fitted: 1 configuration with fewer than 3 sizes timed. A line through two sizes " in fits
    alone = report([write(tmp_path / "a.jsonl", records[:1]), "--out", str(tmp_path / "a")], capsys)
    fits = Path(alone["markdown"]).read_text(encoding="utf-8").split("Fitted step times")[1].split("All trials")[0]
    assert "Not fitted: 1 configuration" in fits
    assert "|" not in fits


@pytest.mark.usefixtures("_no_figures")
def test_a_time_stands_in_the_column_of_its_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        factory.measured_training_record(factory.training_spec()),
        factory.measured_compute_record(factory.compute_spec()),
    ]
    page = Path(report([write(tmp_path / "r.jsonl", records), "--out", str(tmp_path / "o")], capsys)["html"])
    table = page.read_text(encoding="utf-8").split('id="trials"')[1]
    headings = re.findall(r'<button type="button">(.*?)</button>', table)
    rows = [re.findall(r"<td[^>]*>([^<]*)", row) for row in table.split("<tbody>")[1].split("<tr")[1:3]]
    assert {row[headings.index("configuration")] for row in rows} == {"the only one"}
    per_mpx, per_step = headings.index("s per Mpx"), headings.index("s per step")
    filled = [(row[0], bool(row[per_mpx].strip()), bool(row[per_step].strip())) for row in rows]
    assert filled == [("training", True, False), ("compute", False, True)]


@pytest.mark.usefixtures("_no_figures")
def test_a_comparison_is_told_only_of_trials_that_were_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = EqualityReading(
        loss_error=0.0,
        gradient_error=0.01,
        rounding_loss_error=0.001,
        rounding_gradient_error=0.01,
        loss_tolerance=0.01,
        gradient_tolerance=0.03,
        height=64,
        width=160,
        num_examples=4,
        num_passes=2,
        elapsed_s=0.2,
    )
    plain = [factory.measured_training_record(factory.training_spec(batch_size=n)) for n in (1, 2)]
    compared = [dataclasses.replace(record, equality=reading) for record in plain]
    for records, is_told in ((plain, False), (compared, True), ([plain[0], compared[1]], False)):
        page = Path(report([write(tmp_path / "r.jsonl", records), "--out", str(tmp_path / "o")], capsys)["html"])
        assert ("compared with plain fp32 on the same canvas" in page.read_text(encoding="utf-8")) == is_told
        assert ("were not compared with it" in page.read_text(encoding="utf-8")) != is_told


def ends_figure(records: Sequence[TrialRecord], *, origin: Provenance) -> Figure | None:
    """Return how trials ended, as somebody might draw it; None where all ended well."""
    ends = Counter(record.status for record in records)
    if set(ends) <= {"ok"}:
        return None
    figure, axes = new_figure(title="Ends", caption="", origin=origin, trials=count(len(records), "trial"))
    axes.bar(list(ends), list(ends.values()))
    return figure


def test_a_figure_is_added_by_a_function_and_its_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = figures.Plot(
        name="how_it_ended",
        alt="Trials by the way in which they ended",
        of=figures.records_of,
        draw=lambda found, origin: ends_figure(found.records, origin=origin),
        lack="every trial ended well",
        command=lambda options, _: sweep_command(options, {"kind": "memory", "batch-size": "512"}),
    )
    monkeypatch.setattr(figures, "PLOTS", (entry,))
    good = [factory.measured_training_record(factory.training_spec())]
    bad = [factory.record_of(factory.training_spec(), status="oom")]
    written = report([write(tmp_path / "bad.jsonl", bad), "--out", str(tmp_path / "bad")], capsys)
    assert written["figures"] == [str(tmp_path / "bad" / f"how_it_ended.{suffix}") for suffix in ("png", "svg")]
    assert 'alt="Trials by the way in which they ended"' in Path(written["html"]).read_text(encoding="utf-8")
    assert "![how it ended](how_it_ended.png)" in Path(written["markdown"]).read_text(encoding="utf-8")
    written = report([write(tmp_path / "good.jsonl", good), "--out", str(tmp_path / "good")], capsys)
    assert written["figures"] == []
    (line,) = written["left_out"]
    assert line.startswith("how it ended: every trial ended well; measure with: vnbench sweep ")
    assert pasted_sweep(*commands_in([line])).values["kind"] == ("memory",)
    assert "every trial ended well" in Path(written["html"]).read_text(encoding="utf-8")
