"""Every table and every help, at the widths of terminals and logs, with colour and without."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
from rich.cells import cell_len
from rich.console import RenderableType

from vnbench.analysis.comparison.compare import compare
from vnbench.analysis.comparison.sides import Configuration, Side, figure_of, side_of
from vnbench.analysis.models.max_batch import next_probe, summarize_search
from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.cli.app import app, run
from vnbench.commands.fit import fit_records
from vnbench.images.corpus import Corpus
from vnbench.output.console import stdout_console
from vnbench.output.gate.table import gate_table
from vnbench.output.tables.certification import certification_table
from vnbench.output.tables.compute import compute_table
from vnbench.output.tables.factored import factored_table
from vnbench.output.tables.fit import fit_table
from vnbench.output.tables.loader import loader_table
from vnbench.output.tables.max_batch import max_batch_table
from vnbench.output.tables.profile import profile_tables
from vnbench.output.tables.training import summary_table
from vnbench.output.words.profiles import KINDS, Profile
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.store import load_results
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.design import make_design
from vnbench.sweep.factored import Parts
from vnbench.units import PixelRange

SHIPPED = Path(__file__).parents[2] / "results" / "cpu-amd-epyc"

WIDTHS = (60, 80, 120, 200)

WIDE = 1000

LOOKS: tuple[Mapping[str, str], ...] = (
    {},
    {"TERM": "dumb"},
    {"NO_COLOR": "1"},
    {"FORCE_COLOR": "1"},
    {"FORCE_COLOR": "1", "TERM": "dumb"},
)

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

LEFT_OUT = re.compile(r"No room for:.*?\(COLUMNS=\d+\)(, or [^.]*)?\.")
"""What a table says of columns that it left out."""

RUNS = """
cards = 2
window = "3h"
[[run]]
name = "a run with a longer name"
examples = 400
epochs = 20
[[run]]
name = "second"
examples = 90000
epochs = 50
"""


def summary() -> RenderableType:
    return summary_table(factory.cuda_sweep(), price_per_hour=2.5)


def compute_trials() -> RenderableType | None:
    return compute_table(factory.compute_sweep())


def loader_trials() -> RenderableType | None:
    specs = [factory.loader_spec(num_workers=n, batch_size=size) for n in (0, 2, 8) for size in (2, 4)]
    return loader_table([factory.measured_loader_record(spec) for spec in specs])


def certificates() -> RenderableType | None:
    return certification_table([record for record in factory.cuda_sweep() if record.kind == "memory"])


def searches() -> RenderableType:
    found = []
    for precision in ("fp32", "bf16"):
        base = factory.memory_spec(factory.training_spec(batch_size=1, device="cuda", precision=precision))
        records: list[TrialRecord] = []
        while (asked := next_probe(records, most=64)) is not None:
            size = asked.micro_batch_size
            spec = dataclasses.replace(base, batch_size=size, micro_batch_size=size)
            cause = None if size <= 5 else Cause(kind="torch-out-of-memory", message="too large")
            peak = {} if cause else {"memory": factory.reading_of(spec, peak_bytes=(1 + 2 * size) * 2**30)}
            status: Any = "oom" if cause else "ok"
            records.append(factory.record_of(spec, status=status, cause=cause, replicate=asked.replicate, **peak))
        sizes = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
        sizes_N2 = draw_sizes(sizes, 32, seed=0)
        found.append(summarize_search(base, records, train_sizes_N2=sizes_N2, sampler="bucketed"))
    return max_batch_table(found)


def fits() -> RenderableType:
    report = fit_records(factory.compute_sweep(), where="RESULTS")
    return fit_table(report.families, left_out=report.left_out, compositions=report.compositions, origin=report.origin)


def forecasts() -> RenderableType:
    flags = {
        "widths": "3200:12800",
        "design": "factored",
        "subset": "16",
        "batch-size": "1,2",
        "precision": "bf16,fp32",
    }
    config = complete(read_request(flags, config_path=None), environment={"device_type": "cpu", "num_cpus": 8})
    sizes = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
    known: dict[str, Any] = {"corpus_id": "0" * 12, "worst_case": (640, 12_800)}
    sizes_N2 = draw_sizes(sizes, 64, seed=0)
    canvases = ((640, 12_800), (608, 11_008), (640, 8992), (512, 8000), (480, 3200))
    design = make_design(config, **known, train_sizes_N2=sizes_N2, canvas_sizes=canvases)
    measured = {"compute": factory.measured_compute_record, "loader": factory.measured_loader_record}
    records = [
        measured[trial.spec.kind](trial.spec, replicate=trial.replicate)
        for trial in design.trials
        if trial.spec.kind in measured
    ]
    return factored_table(Parts(config, records, **known, sizes_N2=sizes_N2).forecast_all(), [])


def profile() -> RenderableType:
    stages = ("encoder 1", "encoder 2", "attention", "decoder 1", "")
    sizes = {(stage, kind): 2**20 * (place + 1) * 31 for place, kind in enumerate(KINDS) for stage in stages}
    return profile_tables(
        [
            Profile(
                spec=factory.memory_spec(factory.training_spec()),
                status="ok",
                reason=None,
                stages=stages,
                tracked_peak_bytes=sum(sizes.values()),
                measured_peak_bytes=None,
                instrument="process",
                peak_place="backward pass of decoder 1",
                at_peak=sizes,
                timeline=(),
            )
        ]
    )


def comparison() -> RenderableType:
    before, after = (side_of(load_results(SHIPPED / f"gate_{number}.jsonl").records) for number in (1, 2))
    return gate_table(compare(before, after), about=("old.jsonl", "new.jsonl"))


TABLES: tuple[Callable[[], RenderableType | None], ...] = (
    summary,
    compute_trials,
    loader_trials,
    certificates,
    searches,
    fits,
    forecasts,
    profile,
    comparison,
)


def words_of(text: str) -> set[str]:
    """Return the words and numbers of a text, without rules and the commas of sentences."""
    return {word.rstrip(",.") for word in text.replace("─", "").split()}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def show(tell: Callable[[], object], *, width: int, look: Mapping[str, str]) -> str:
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            for name, value in look.items():
                patch.setenv(name, value)
            tell()
        return capsys.readouterr().out

    return show


def assert_whole(narrow: str, *, wide: str, width: int) -> None:
    """Fail where a line is wider than its terminal, or holds a part of a word or number."""
    for line in ESCAPES.sub("", narrow).splitlines():
        assert cell_len(line) <= width, line
    cut = words_of(LEFT_OUT.sub("", " ".join(ESCAPES.sub("", narrow).split()))) - words_of(wide)
    assert not cut, "words that the whole table does not have"


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("table", TABLES, ids=lambda one: one.__name__)
def test_no_table_is_wider_than_its_terminal_or_cuts_a_word(
    table: Callable[[], RenderableType | None], look: Mapping[str, str], shown: Callable[..., str]
) -> None:
    made = table()
    wide = shown(lambda: stdout_console().print(made), width=WIDE, look={})
    assert "No room for" not in wide
    for width in WIDTHS:
        narrow = shown(lambda: stdout_console().print(made), width=width, look=look)
        assert_whole(narrow, wide=wide, width=width)
        assert narrow.count("No room for") <= wide.count("─\n"), "it is said once for each table"


@pytest.mark.parametrize("arguments", [[], ["--window", "12h"], ["--runs"]], ids=str)
def test_no_plan_is_wider_than_its_terminal_or_cuts_a_word(
    arguments: list[str], tmp_path: Path, shown: Callable[..., str]
) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text("".join(record.to_json() + "\n" for record in factory.gpu_campaign()))
    (tmp_path / "runs.toml").write_text(RUNS)
    what = [str(tmp_path / "runs.toml")] if "--runs" in arguments else ["--examples", "2000", "--epochs", "20"]
    command = ["plan", str(records), *arguments, *what]
    wide = shown(lambda: run(command), width=WIDE, look={})
    assert "No room for" not in wide
    for width in WIDTHS:
        assert_whole(shown(lambda: run(command), width=width, look={}), wide=wide, width=width)


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_verdict_of_a_gate_is_whole_and_stands_first(
    width: int, look: Mapping[str, str], shown: Callable[..., str]
) -> None:
    made = comparison()
    wide = shown(lambda: stdout_console().print(made), width=WIDE, look={})
    narrow = ESCAPES.sub("", shown(lambda: stdout_console().print(made), width=width, look=look))

    def verdicts(text: str) -> list[str]:
        lines = text.partition("─\n")[2].split("No room for")[0].split("\n\n")[0].splitlines()
        return [line.split()[0] for line in lines if not line.startswith(" ")]

    assert verdicts(narrow) == verdicts(wide) == ["ambiguous"] * 10


def test_what_a_table_leaves_out_is_said_once_with_the_width_that_shows_it(shown: Callable[..., str]) -> None:
    made = comparison()
    narrow = " ".join(shown(lambda: stdout_console().print(made), width=80, look={}).split())
    told = re.search(r"No room for: ([a-z, ]+)\. The whole table takes (\d+) columns \(COLUMNS=\2\)", narrow)
    assert told is not None
    assert "verdict" not in told[1]
    whole = shown(lambda: stdout_console().print(made), width=int(told[2]), look={})
    assert "No room for" not in whole


def test_rows_that_have_no_room_beside_each_other_are_sentences(shown: Callable[..., str]) -> None:
    made = summary()
    narrow = shown(lambda: stdout_console().print(made), width=40, look={})
    assert "\nbatch 1, micro 1, precision bf16," in narrow
    assert max(map(len, narrow.splitlines())) <= 40


@pytest.mark.parametrize("name", [None, *(name for name, one in app.commands.items() if not one.hidden)])
def test_help_breaks_between_words_and_never_within(name: str | None, shown: Callable[..., str]) -> None:
    command = ["--help"] if name is None else [name, "--help"]
    wide = shown(lambda: run(command), width=WIDE, look={})
    for width in WIDTHS:
        narrow = shown(lambda: run(command), width=width, look={})
        assert max(map(cell_len, narrow.splitlines())) <= width
        # A command that goes on in another line says so to the shell.
        assert_whole(narrow.replace(" \\\n", "\n"), wide=wide.replace(" \\\n", "\n"), width=width)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "benchmarks/suites/bench_path.py::test_iterating_over_a_loader_of_workers[threads-prefetch-2]",
            ["bench_path.py::", "test_iterating_over_a_loader_of_workers", "[threads-prefetch-2]"],
        ),
        ("測試/基準.py::test_讀取[影像]", ["test_讀取[影像]"]),
    ],
)
def test_the_name_of_a_benchmark_is_broken_after_parts_of_it(
    name: str, parts: list[str], shown: Callable[..., str]
) -> None:
    sides = [
        Side(keys={}, configurations={name: Configuration(name=name, figures={"time": figure_of([s], metric="time")})})
        for s in (0.1, 0.15)
    ]
    made = gate_table(compare(*sides), about=("a.json", "b.json"))
    for width in (60, 80):
        narrow = shown(lambda: stdout_console().print(made), width=width, look={})
        assert max(map(cell_len, narrow.splitlines())) <= width
        assert all(part in narrow for part in parts)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_pipe_is_as_wide_as_columns_says_and_no_narrower_for_its_colours(
    look: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in look.items():
        monkeypatch.setenv(name, value)
    assert stdout_console().width == 120
    monkeypatch.setenv("COLUMNS", "97")
    assert stdout_console().width == 97
    monkeypatch.setenv("COLUMNS", "many")
    assert stdout_console().width == 120


@pytest.mark.parametrize(
    "command",
    [
        "batching --widths 640:2560 --examples 40 --batch-size 4 --sampler pixel-budget --shapes 5 --ranks 2",
        "corpus FOLDER --describe",
    ],
)
def test_plain_lines_are_broken_between_words_where_a_width_is_known(
    command: str, built: Corpus, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(built.directory.parent)
    arguments = command.replace("FOLDER", built.directory.name).split()
    wide = shown(lambda: run(arguments), width=WIDE, look={})
    for width in WIDTHS:
        assert_whole(shown(lambda: run(arguments), width=width, look={}), wide=wide, width=width)


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_terminal_is_as_wide_as_it_is_whatever_it_is_called(
    look: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in look.items():
        monkeypatch.setenv(name, value)
    with open(os.devnull, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((70, 30)))
        assert stdout_console().width == 70
