from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from record_factory import record_of, training_spec

from vnbench.cli.app import run
from vnbench.cli.sweep import STARTING
from vnbench.records.spec.words import SAMPLER_NAMES
from vnbench.sweep.runner import probe_environment

WIDTHS = ["--widths", "64:160"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def refuse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return its one line."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    err = err.removeprefix(f"{STARTING}\n")
    assert err.startswith("vnbench: ")
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--widths", "12800:3200"], ["--widths 12800:3200", "start is greater than stop", "write 3200:12800"]),
        (["--widths", "-5:3200"], ["--widths -5:3200", "at least 1 px"]),
        (["--widths", "0:3200"], ["--widths 0:3200", "at least 1 px"]),
        (["--widths", "3200:200001"], ["--widths 3200:200001", "largest side, 200000 px"]),
        (["--widths", "wide"], ["--widths wide", "write START:STOP"]),
        (["--widths", "3200:12800", "--heights", "640:480"], ["--heights 640:480", "write 480:640"]),
        ([*WIDTHS, "--batch-size", "0"], ["--batch-size 0", "whole number of at least 1"]),
        ([*WIDTHS, "--batch-size", "-2"], ["--batch-size -2", "whole number of at least 1"]),
        ([*WIDTHS, "--batch-size", "1.5"], ["--batch-size 1.5", "whole number of at least 1"]),
        ([*WIDTHS, "--batch-size", "two"], ["--batch-size two", "whole number of at least 1"]),
        ([*WIDTHS, "--precision", "fp8"], ["--precision fp8", "fp32, tf32, bf16, fp16", "write"]),
        ([*WIDTHS, "--sampler", "bucket"], ["--sampler bucket", "random, step-sorted, bucketed", "write bucketed"]),
        ([*WIDTHS, "--model", "unet"], ["--model unet", "veernet, veernet-tiny"]),
        ([*WIDTHS, "--design", "half"], ["--design half", "one-at-a-time, factored, full"]),
        ([*WIDTHS, "--bach-size", "1"], ["--bach-size", "no such option", "write --batch-size"]),
        ([*WIDTHS, "--xyzzy", "1"], ["--xyzzy", "no such option", "vnbench sweep --help"]),
        (["--widths"], ["--widths: it needs a value; write --widths A:B"]),
        ([], ["--widths", "are needed", "write --widths"]),
        ([*WIDTHS, "--sizes", "missing.csv"], ["--sizes", "leave"]),
        (["--sizes", "missing.csv"], ["missing.csv", "No such file"]),
        (["--corpus", "missing"], ["missing", "no such folder", "vnbench corpus"]),
        ([*WIDTHS, "--config", "missing.toml"], ["--config missing.toml", "No such file"]),
        ([*WIDTHS, "--out", "."], ["--out .", "folder", "write"]),
        ([*WIDTHS, "--out", "/proc/vnbench/r.jsonl"], ["--out /proc/vnbench/r.jsonl", "cannot be created"]),
        ([*WIDTHS, "--time-budget", "soon"], ["--time-budget soon", "10m"]),
    ],
)
def test_bad_input_gets_one_line_exit_code_2_and_writes_nothing(
    arguments: list[str], parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refuse(["sweep", *arguments, "--device", "cpu"][: None if arguments != ["--widths"] else 2], capsys)
    for part in parts:
        assert part in line
    assert list(here.iterdir()) == []


def test_a_folder_that_is_not_there_is_told_before_torch_starts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "scans").mkdir()
    for name, remedy in (("scan", "write scans"), ("x/scan", "name a folder of images and masks, or write one with")):
        assert run(["sweep", "--images", name]) == 2
        told = capsys.readouterr().err
        assert f"--images {name}: there is no such folder; {remedy}" in told
        assert STARTING not in told


@pytest.mark.processes
@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ("width,height\n3200,480\n0,480\n", "line 3"),
        ("width,height\n3200,480\n3200,-1\n", "line 3"),
        ("width,height\n3200,\n", "line 2"),
        ("width,height\n900000,480\n", "line 2"),
        ("width\n3200\n", "height"),
        ("width,height\n", "no sizes"),
    ],
)
def test_a_size_file_with_a_bad_row_is_refused_by_its_row(
    rows: str, part: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sizes.csv").write_text(rows)
    for arguments in (
        ["sweep", "--sizes", "sizes.csv", "--device", "cpu"],
        ["batching", "--sizes", "sizes.csv", "--batch-size", "2", "--sampler", "random"],
    ):
        line = refuse(arguments, capsys)
        assert "sizes.csv" in line
        assert part in line
    assert [path.name for path in here.iterdir()] == ["sizes.csv"]


@pytest.mark.processes
def test_cuda_is_refused_where_there_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "--device cuda" in refuse(["sweep", *WIDTHS, "--device", "cuda"], capsys)
    assert list(here.iterdir()) == []


@pytest.mark.processes
def test_results_of_another_device_or_revision_are_left_alone_and_the_sweep_names_another_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = probe_environment("cpu")
    for key in ("device_name", "revision"):
        record = record_of(training_spec(), environment=environment | {key: "another"})
        (here / "r.jsonl").write_text(record.to_json() + "\n")
        before = (here / "r.jsonl").read_bytes()
        assert run(["sweep", *WIDTHS, "--device", "cpu", "--out", "r.jsonl", "--dry-run"]) == 0
        told = capsys.readouterr().err
        assert f"r.jsonl holds other records ({key} another there, " in told
        assert "these go to r.2.jsonl" in told
        assert (here / "r.jsonl").read_bytes() == before


@pytest.mark.processes
def test_results_of_another_schema_are_refused_and_left_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "r.jsonl").write_text('{"schema_version": 7}\n')
    line = refuse(["sweep", *WIDTHS, "--device", "cpu", "--out", "r.jsonl"], capsys)
    assert "schema version 7" in line
    assert (here / "r.jsonl").read_text() == '{"schema_version": 7}\n'


@pytest.mark.processes
def test_a_dry_run_lists_everything_and_writes_nothing(
    here: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib.font_manager  # noqa: F401  # writes its own cache when it is first imported

    before = list(own_cache.rglob("*"))
    arguments = ["sweep", *WIDTHS, "--heights", "32:64", "--device", "cpu", "--precision", "tf32,fp32", "--dry-run"]
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["num_trials"] == 0
    assert report["num_not_started"] > 0
    numbers = re.findall(r"^(\d+) x (?:traced memory|memory|training): ", err, flags=re.M)
    assert sum(map(int, numbers)) == report["num_not_started"]
    assert "left out" in err
    assert "TF32" in err
    assert "estimated time" in err
    assert "KiB" in err
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert len(re.findall(r"^\d+ x \w+", out, flags=re.M)) == len(numbers), "without --json the list is the output"
    assert "estimated time" in out
    assert [line for line in err.splitlines() if not line.startswith("Starting")] == []
    assert list(here.iterdir()) == []
    assert list(own_cache.rglob("*")) == before


def test_batching_accounts_hold_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["batching", "--widths", "3200:12800", "--examples", "500", "--batch-size", "16", "--sampler"]
    for sampler in ("random", "bucketed"):
        assert run([*arguments, sampler, "--json"]) == 0
        account = json.loads(capsys.readouterr().out)
        promised = (
            "sampler batch_size num_examples num_batches num_steps valid_pixels padded_pixels padding_ratio "
            "lower_bound_padding_ratio distinct_shapes repeated_pair_ratio"
        )
        assert set(promised.split()) <= set(account)
        assert account["sampler"] == sampler
        assert account["num_steps"] == 32
        assert 0 < account["lower_bound_padding_ratio"] <= account["padding_ratio"] < 1


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_batching_accounts_for_every_sampler_shapes_and_ranks(sampler: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--widths", "3200:12800", "--examples", "200", "--batch-size", "16", "--micro-batch-size", "2"]
    assert run(["batching", *arguments, "--sampler", sampler, "--shapes", "6", "--ranks", "4", "--json"]) == 0
    account = json.loads(capsys.readouterr().out)
    assert account["sampler"] == sampler
    assert 0 < account["step_efficiency"] <= 1
    assert account["shapes_cost_ratio"] > 0
    assert account["largest_padded_pixels"] <= 16 * 640 * 12_800
    assert account["pixel_budget"] == (2 * 640 * 12_800 if sampler == "pixel-budget" else None)
    assert run(["batching", *arguments, "--sampler", sampler, "--shapes", "6", "--ranks", "4"]) == 0
    told = capsys.readouterr().out
    assert "over 4 ranks" in told
    assert "cost of fewer shapes" in told


def test_batching_accounts_for_several_samplers_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["batching", "--widths", "3200:12800", "--examples", "500", "--batch-size", "16", "--sampler"]
    alone = []
    for sampler in ("random", "bucketed"):
        assert run([*arguments, sampler, "--json"]) == 0
        alone.append(json.loads(capsys.readouterr().out))
    assert run([*arguments, "random,bucketed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"accounts": alone}
    assert run([*arguments, "random,bucketed"]) == 0
    rows = [re.split("  +", line) for line in capsys.readouterr().out.splitlines()]
    assert ["sampler", "random", "bucketed"] in rows
    assert ["padding", *(f"{100 * one['padding_ratio']:.1f} %" for one in alone)] in rows
    assert "--sampler random,bucketed: with --plan-out it takes one value" in refuse(
        [*arguments, "random,bucketed", "--plan-out", "plan.jsonl"], capsys
    )


def test_a_written_plan_is_resumed_where_its_state_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["batching", "--widths", "64:128", "--examples", "50", "--batch-size", "8", "--sampler", "bucketed"]
    assert run([*arguments, "--epoch", "5", "--plan-out", "plan.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remaining_examples"] == 50
    head, *steps = [json.loads(line) for line in (here / "plan.jsonl").read_text().splitlines()]
    assert (head["epoch"], head["next_step"], len(steps)) == (5, 0, 7)
    assert sorted(index for step in steps for micro in step["micro_batches"] for index in micro["examples"]) == list(
        range(50)
    )

    (here / "state.json").write_text(json.dumps(head | {"next_step": 4}))
    assert run([*arguments, "--resume", "state.json", "--plan-out", "rest.jsonl", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["epoch"], answer["next_step"], answer["remaining_steps"]) == (5, 4, 3)
    _, *rest = [json.loads(line) for line in (here / "rest.jsonl").read_text().splitlines()]
    assert rest == steps[4:]

    assert run([*arguments, "--plan-out", "first.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epoch"] == 0, "a plan to train on begins at the first epoch"
    assert "batch_size 8 there, 4 here" in refuse([*arguments, "--batch-size", "4", "--resume", "state.json"], capsys)
    assert "the state is of epoch 5" in refuse([*arguments, "--epoch", "6", "--resume", "state.json"], capsys)
    assert "cannot be read" in refuse([*arguments, "--resume", "none.json"], capsys)
    assert "cannot be written" in refuse([*arguments, "--plan-out", "none/plan.jsonl"], capsys)


def test_a_plan_of_a_folder_says_that_it_holds_every_image(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "scans").mkdir()
    for number in range(3):
        Image.new("L", (64, 32)).save(here / "scans" / f"{number}.png")
    (here / "sizes.csv").write_text("width,height\n64,32\n64,32\n")
    of = ["batching", "--batch-size", "1", "--sampler", "random", "--plan-out", "plan.jsonl", "--sizes"]
    assert run([*of, "scans"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "written: plan.jsonl, with all 3 images of scans, any for validation too; to plan training" in told
    assert run([*of, "sizes.csv"]) == 0
    assert "validation" not in capsys.readouterr().err


def test_batching_tells_people_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--widths", "64:128", "--examples", "9", "--batch-size", "4", "--micro-batch-size", "2"]
    assert run(["batching", *arguments, "--sampler", "bucketed"]) == 0
    out = capsys.readouterr().out
    assert "3 of 4" in out
    assert "5 of 2" in out


@pytest.mark.parametrize(("sampler", "is_told"), [("sorted", True), ("random", False)])
def test_what_repeated_pairs_mean_is_told_where_there_are_many(
    sampler: str, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--widths", "3200:12800", "--examples", "4000", "--batch-size", "8"]
    assert run(["batching", *options, "--sampler", sampler]) == 0
    assert ("was not measured" in capsys.readouterr().out) is is_told


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--batch-size", "4"], "--widths"),
        (["--widths", "64:128", "--batch-size", "4"], "--examples"),
        (["--widths", "64:128", "--examples", "0", "--batch-size", "4"], "--examples 0"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4,8"], "one value"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "6"], "--batch-size 6: there are only 5 examples"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--ranks", "5"], "only 4 examples in a step"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--ranks", "0"], "--ranks 0"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--shapes", "2,4"], "one value"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--shapes", "few"], "--shapes few"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--pixel-budget", "1Mpx"], "has no budget"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--epoch", "-1"], "--epoch -1"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4"], "--sampler"),
        (["--widths", "64:128", "--examples", "5", "--batch-size", "4", "--micro-batch-size", "3"], "does not divide"),
    ],
)
def test_batching_refuses_what_it_cannot_account_for(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = [] if part == "--sampler" else ["--sampler", "random"]
    assert part in refuse(["batching", *arguments, *sampler], capsys)


@pytest.mark.parametrize(
    ("budget", "parts"),
    [
        ("8191999", ["--pixel-budget 8191999: the largest example alone is above it", "write 8192000 or more"]),
        ("1x640x3200", ["alone is above it"]),
        ("0", ["--pixel-budget 0", "2x640x12800"]),
        ("lots", ["--pixel-budget lots", "2x640x12800"]),
    ],
)
def test_a_pixel_budget_below_one_example_is_refused(
    budget: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--widths", "12800", "--heights", "640", "--examples", "20", "--batch-size", "4"]
    message = refuse(["batching", *sizes, "--sampler", "pixel-budget", "--pixel-budget", budget], capsys)
    for part in parts:
        assert part in message


def test_corpus_writes_images_masks_and_a_manifest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["corpus", "logs", "--examples", "5", "--widths", "64:96", "--heights", "32:40", "--task", "binary"]
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_examples"] == 5
    assert len(list((here / "logs" / "images").iterdir())) == 5
    assert (here / "logs" / "manifest.csv").read_text().count("\n") == 6
    assert run([*arguments, "--seed", "1"]) == 2
    assert "logs: holds another corpus" in capsys.readouterr().err


@pytest.mark.processes
def test_env_tells_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["env", "--device", "cpu", "--json"]) == 0
    environment = json.loads(capsys.readouterr().out)
    assert environment["device_type"] == "cpu"
    assert isinstance(environment["disturbances"], list)
    assert run(["env", "--device", "cpu"]) == 0
    assert "torch_version" in capsys.readouterr().out


def test_an_interrupt_that_was_told_as_another_error_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_interrupted(*_: Any, **__: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr("vnbench.request.reading.read_request", import_interrupted)
        assert run(["sweep", "--widths", "64:96"]) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_plot_refuses_what_is_no_results_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refuse(["plot", "missing.jsonl", "--out", "figures"], capsys)
    assert list(here.iterdir()) == []


def test_help_lists_commands_in_the_order_of_their_use_each_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    commands = capsys.readouterr().out.split("Commands:\n")[1].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in commands][:4] == ["sweep", "plan", "plot", "report"]
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"vnbench {importlib.metadata.version('vnbench')}\n"


@pytest.mark.parametrize(("window", "is_told"), [("12", True), ("12h", False)])
def test_a_duration_without_a_unit_is_taken_as_seconds_and_told(
    window: str, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", "--examples", "100", "--epochs", "1", "--window", window]) == 0
    note = "note: --window 12 is 12 s: a number without a unit is seconds; write 12h for hours, 12m for minutes\n"
    assert (note in capsys.readouterr().err) is is_told


def test_what_a_command_needs_is_named_as_one_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    line = refuse(["batching", "--batch-size", "4"], capsys)
    told = f"it is required, one or several of {', '.join(SAMPLER_NAMES)}"
    assert line == f"vnbench: --sampler NAME,...: {told}; see vnbench batching --help"
    assert refuse(["fit"], capsys) == "vnbench: RESULTS...: it is required; see vnbench fit --help"


def test_values_of_a_list_that_stand_apart_are_told_to_be_joined(capsys: pytest.CaptureFixture[str]) -> None:
    told = "vnbench: --batch-size 1 2 4: several values are one comma list; write --batch-size 1,2,4"
    assert refuse(["sweep", "--widths", "64:96", "--batch-size", "1", "2", "4", "--precision", "fp32"], capsys) == told
    assert "Got unexpected extra argument (x)" in refuse(["sweep", "--time-budget", "1m", "x"], capsys)


def test_an_unknown_command_is_told_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    line = refuse(["swep"], capsys)
    assert "swep: there is no such command" in line
    assert "sweep" in line


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"], ["sweep", "--help-all"], []])
def test_help_answers_without_the_heavy_imports(arguments: list[str]) -> None:
    script = (
        f"import sys; from vnbench.cli.app import run; run({arguments}); "
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'scipy', 'rich', 'asyncio'} & set(sys.modules); "
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sweep" in done.stdout


@pytest.mark.processes
def test_a_plan_from_the_records_that_ship_imports_no_library_for_a_single_function_of_it() -> None:
    """scipy.stats takes longer to import than a plan to make; pandas and matplotlib are for other commands."""
    script = (
        "import sys; from vnbench.cli.app import run; code = run(['plan']); "
        "slow = {'torch', 'scipy.stats', 'pandas', 'matplotlib'} & set(sys.modules); "
        "sys.exit(repr(slow) if slow else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_name_alone_says_in_five_lines_what_it_is_and_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) <= 6
    assert "vnbench sweep --widths 3200:12800" in lines[1]
    assert max(map(len, lines)) <= 120
