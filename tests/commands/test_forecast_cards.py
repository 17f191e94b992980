"""``vnbench forecast --widths``: what cards would take that are not at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory

from vnbench.cli.app import run
from vnbench.records.step_trace import StepTrace, TraceOrder
from vnbench.sweep.forecasts import step_traces, traces
from vnbench.sweep.forecasts.step_traces import run_step_traces

SMALL = (
    *("--widths", "64:128", "--heights", "32:64", "--model", "veernet-tiny", "--examples", "50", "--epochs", "2"),
    *("--precision", "bf16", "--norm-precision", "input", "--checkpointing", "none", "--batch-size", "1,2"),
)

KNOWN: dict[TraceOrder, StepTrace | str] = {}
"""What was traced for earlier tests: a trace takes a second, and the tests here ask for the same again and again."""


@pytest.fixture(autouse=True)
def traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def known_step_traces(orders: Sequence[TraceOrder]) -> Iterator[tuple[TraceOrder, StepTrace | str]]:
        KNOWN.update(run_step_traces([order for order in orders if order not in KNOWN]))
        yield from ((order, KNOWN[order]) for order in orders)

    monkeypatch.setattr(traces, "run_step_traces", known_step_traces)


@pytest.mark.processes
def test_a_forecast_has_brackets_for_every_card_and_a_plan_is_made_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "forecast.jsonl"
    command = ["forecast", *SMALL, "--card", "h200,24GiB", "--out", str(out), "--json"]
    assert run(command) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert "traced (" in captured.err
    assert [(one["card"], one["spec"]["batch_size"]) for one in answer["cards"]] == [
        ("h200", 1),
        ("h200", 2),
        ("24GiB", 1),
        ("24GiB", 2),
    ]
    for one in answer["cards"]:
        for name in ("allocated_bytes", "reserved_bytes", "device_bytes"):
            assert 0 < one[name]["low"] <= one[name]["high"]
        assert one["reserved_bytes"]["low"] < one["device_bytes"]["low"]
        assert one["verdict"] == "fits"
        is_known = one["card"] == "h200"
        assert (one["step_time_s"] is not None) == (one["wall_clock_s"] is not None) == is_known
        if is_known:
            time: dict[str, float] = one["step_time_s"]
            assert 0 < time["low"] <= time["central"] <= time["high"]
    # No larger ones are looked for.
    assert [one["micro_batch_size"] for one in answer["largest_micro_batches"]] == [512, 512]
    lines = out.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["forecast"] * 4

    # What is there already is not written again, and a plan takes one card.
    assert run(command) == 0
    assert out.read_text(encoding="utf-8").splitlines() == lines
    capsys.readouterr()
    run_asked = ["--examples", "50", "--epochs", "2"]
    assert run(["plan", str(out), *run_asked]) == 2
    assert "--card" in capsys.readouterr().err
    assert run(["plan", str(out), "--card", "h200", *run_asked, "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert plan["recommended"]["evidence"] == "forecast"
    assert plan["device"] == "H200 (forecast)"
    wall_clock_s = plan["recommended"]["wall_clock_s"]
    assert wall_clock_s["p10"] < wall_clock_s["p50"] < wall_clock_s["p90"]


UNTRACEABLE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Conv2d(1, num_classes, 1)

    def forward(self, images):
        logits = self.layer(images)
        return logits * logits.mean().item()

def build(num_classes):
    return Net(num_classes)
"""


@pytest.mark.processes
def test_a_network_that_cannot_be_traced_is_told_with_the_reason_and_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, out = tmp_path / "net.py", tmp_path / "forecast.jsonl"
    network.write_text(UNTRACEABLE, encoding="utf-8")
    sizes = ["--widths", "64:128", "--heights", "32:64", "--batch-size", "1", "--precision", "bf16"]
    command = ["forecast", *sizes, "--card", "h200", "--model", f"{network}:build", "--out", str(out)]
    assert run(command) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "H200: nothing could be forecast." in told
    assert "1 configuration could not be forecast" in told
    assert "_local_scalar_dense" in told
    assert run([*command, "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["cards"][0]["verdict"] is None
    assert answer["largest_micro_batches"][0]["micro_batch_size"] is None
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1


OWN_SIZES = ("--widths", "64:128", "--heights", "32:64", "--precision", "bf16")


def own(line: str, folder: Path) -> str:
    """Return the name of UNTRACEABLE's network with another last line."""
    path = folder / "net.py"
    path.write_text(UNTRACEABLE.replace("return logits * logits.mean().item()", line), encoding="utf-8")
    return f"{path}:build"


@pytest.mark.processes
def test_a_network_that_ends_its_process_is_a_configuration_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = own("import os; return os._exit(5) if images.shape[0] == 2 else logits", tmp_path)
    asked = ["--batch-size", "1,2", "--card", "h200", "--out", str(tmp_path / "forecast.jsonl"), "--json"]
    assert run(["forecast", *OWN_SIZES, *asked, "--model", model]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in answer["cards"]] == ["fits", None]
    assert "while it was traced, the process ended with exit code 5" in answer["cards"][1]["reason"]


@pytest.mark.processes
def test_a_preset_whose_process_is_killed_is_a_configuration_that_fails_until_it_is_forecast_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "forecast.jsonl"
    command = ["forecast", *SMALL, "--card", "h200", "--out", str(out), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr(traces, "run_step_traces", run_step_traces)
        patched.setattr(step_traces, "TRACING_ENTRY", "scripted_child:trace_but_two_examples")
        assert run(command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in answer["cards"]] == ["fits", None]
    assert "while it was traced, the process was ended by SIGKILL" in answer["cards"][1]["reason"]
    assert answer["largest_micro_batches"][0]["micro_batch_size"] == 1

    assert run(command) == 0
    assert [one["verdict"] for one in json.loads(capsys.readouterr().out)["cards"]] == ["fits", "fits"]
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    written = [(one["spec"]["batch_size"], one["attempt"], one["status"]) for one in records]
    assert written == [(1, 0, "ok"), (2, 0, "crashed"), (2, 1, "ok")]


@pytest.mark.processes
def test_a_network_that_fails_on_one_image_has_a_largest_micro_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = own(
        "return logits + nn.functional.batch_norm(logits.mean((2, 3)), None, None, training=True).sum()", tmp_path
    )
    asked = ["--batch-size", "1,2", "--card", "h200", "--out", str(tmp_path / "forecast.jsonl"), "--json"]
    assert run(["forecast", *OWN_SIZES, *asked, "--model", model]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["verdict"] for one in answer["cards"]] == [None, "fits"]
    assert "net.py:11, in forward: ValueError: Expected more than 1 value per channel" in answer["cards"][0]["reason"]
    assert answer["largest_micro_batches"][0]["micro_batch_size"] == 512


@pytest.mark.processes
def test_a_plan_for_a_card_refuses_a_network_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--examples", "50", "--epochs", "2", "--batch-size", "1"]
    sizes = OWN_SIZES[:4]
    assert run(["plan", "--card", "h200", *sizes, *asked, "--model", own("return images.missing", tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "net.py:11, in forward: AttributeError: 'FakeTensor' object has no attribute 'missing'; repair" in told


@pytest.mark.processes
def test_what_fits_is_told_where_no_run_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levers = ["--batch-size", "4", "--micro-batch-size", "1", "--compile", "default"]
    command = ["forecast", *SMALL[:-2], *levers, "--card", "24GiB,l4", "--out", str(tmp_path / "forecast.jsonl")]
    assert run(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "24GiB: 512 or more images a pass fit; how fast the card is, is not known." in told
    assert "L4: 512 or more images a pass fit; runs of several passes a step are not planned." in told
    assert "Compiled code is traced as eager" in told


@pytest.mark.processes
def test_a_plan_for_a_card_needs_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = own("return logits", tmp_path)
    asked = ["--examples", "50", "--epochs", "2", "--widths", "64:128", "--heights", "32:64", "--batch-size", "1"]
    assert run(["plan", "--card", "rtx-4090", "--model", model, *asked]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Evidence: forecast." in told
    assert "forecast: nothing was measured" in told
    assert "RTX 4090 (forecast)" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--widths", "3200:12800"], "--card: it is required with --widths; write --card h200, or --card 24GiB"),
        (["--card", "h200"], "--widths: the sizes of the images are needed, or the recording of a run"),
        (["--widths", "3200:12800", "--card", "h2000"], "--card h2000: known cards are"),
        (
            ["--widths", "3200:12800", "--card", "h200", "--allocator", "max_split_size:128"],
            "--allocator max_split_size:128: there is no setting 'max_split_size'",
        ),
        (["--widths", "12800:3200", "--card", "h200"], "--widths 12800:3200: start is greater than stop"),
        (["--widths", "3200:12800", "--card", "h200", "--device-index", "0"], "--device-index: it is of a --snapshot"),
        (
            ["--widths", "3200:12800", "--card", "v100 32gb", "--precision", "tf32", "--checkpointing", "none"],
            "no combination of the values can be forecast",
        ),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnbench.commands.forecast.cards.probe_environment", lambda device: {})
    assert run(["forecast", *arguments]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vnbench.commands.forecast.cards.probe_environment", lambda device: {})
    assert run(["forecast", *SMALL, "--card", "h200", "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "this is a folder" in captured.err
    assert "tracing" not in captured.err


def test_a_plan_refuses_a_size_for_a_card_and_a_card_that_records_lack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", "--card", "24GiB", "--examples", "50", "--epochs", "2"]) == 2
    assert "--card 24GiB: a size says nothing of how fast a card is" in capsys.readouterr().err
    path = tmp_path / "forecast.jsonl"
    path.write_text(factory.forecast_record().to_json() + "\n", encoding="utf-8")
    assert run(["plan", str(path), "--card", "l4", "--examples", "50", "--epochs", "2"]) == 2
    assert "holds forecasts for H200; write --card H200" in capsys.readouterr().err


@pytest.mark.processes
def test_a_card_that_is_named_twice_is_forecast_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*SMALL[:-1], "1", "--card", "24.0GiB,h200,24GiB,H200", "--out", str(tmp_path / "forecast.jsonl")]
    assert run(["forecast", *asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(one["card"], one["spec"]["card"]) for one in answer["cards"]] == [("24.0GiB", "24GiB"), ("h200", "H200")]


@pytest.mark.processes
def test_settings_of_the_allocator_are_compared_under_their_names_or_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "forecast.jsonl"
    texts = ["native,expandable-segments", "max_split_size_mb:128, roundup_power2_divisions:[1:2,>:4]"]
    same = ["expandable_segments:True", "backend:native"]
    asked = [*SMALL[:-1], "1", "--card", "h200", "--out", str(out)]
    command = ["forecast", *asked, *(part for text in (*texts, *same) for part in ("--allocator", text))]
    assert run([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    settings = ["native", "expandable-segments", "max_split_size_mb:128,roundup_power2_divisions:[1:2,>:4]"]
    assert [one["spec"].get("allocator", "native") for one in answer["cards"]] == settings
    # Four steps from one power of two to the next take more than exact sizes do.
    allocated = [one["allocated_bytes"]["high"] for one in answer["cards"]]
    assert allocated[0] == allocated[1] < allocated[2]
    assert run([*command, "--allocator", "garbage_collection_threshold:0.8"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "max_split_size_mb:128" in told
    assert "garbage_collection_threshold:0.8: torch collects garbage only below a limit" in told

    # The records say so too, and a plan tells the configurations apart.
    run_asked = ["--examples", "50", "--epochs", "2", "--batch-size", "1", "--json"]
    assert run(["plan", str(out), *run_asked]) == 0
    plan = json.loads(capsys.readouterr().out)
    planned = {one["spec"]["allocator"] for one in plan["configurations"]}
    assert planned == {*settings, "garbage_collection_threshold:0.8"}
    held = f"batch-size=1,allocator={settings[-1]},precision=bf16"
    assert run(["plan", str(out), *run_asked, "--hold", held]) == 0
    assert json.loads(capsys.readouterr().out)["recommended"]["spec"]["allocator"] == settings[-1]


@pytest.mark.processes
def test_what_was_measured_of_a_forecast_configuration_is_shown_beside_it_with_its_residual(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of the card are made here: nothing was measured."""
    monkeypatch.chdir(tmp_path)
    training = factory.training_spec(
        device="cuda", model="veernet-tiny", precision="bf16", norm_precision="input", batch_size=2
    )
    spec = factory.memory_spec(training, height=64, width=128)
    reading = factory.reading_of(spec, peak_bytes=64 * factory.GIB, outside_allocator_bytes=0)
    device = {"device_name": "NVIDIA H200", "torch_version": "2.13.0+cu130"}
    measured = factory.record_of(spec, memory=reading, environment=device)
    foreign = factory.record_of(spec, memory=reading, environment=device | {"device_name": "NVIDIA L4"})
    lines = {tmp_path / "given.jsonl": measured, tmp_path / "results/nvidia-h200/sweep.jsonl": measured}
    lines[tmp_path / "results/nvidia-l4/sweep.jsonl"] = foreign
    for path, record in lines.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json() + "\n", encoding="utf-8")
    command = ["forecast", *SMALL, "--card", "h200", "--out", "results/forecasts/h200.jsonl"]
    assert run([*command, "--json"]) == 0
    (one, two) = json.loads(capsys.readouterr().out)["cards"]
    assert one["measured"] == []
    residuals = {told["quantity"]: told for told in two["measured"]}
    assert residuals.keys() == {"allocated_bytes", "reserved_bytes", "device_bytes"}
    assert residuals["reserved_bytes"]["measured"] == 64 * factory.GIB
    assert not residuals["reserved_bytes"]["is_inside"]
    assert residuals["reserved_bytes"]["num_trials"] == 1

    assert run([*command, "given.jsonl"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Measured too, on the card itself:" in told
    assert "64.0 GiB" in told
    assert "0 of 3 measured figures inside the bracket" in told
    assert run(["forecast", "--snapshot", "run.pickle", "given.jsonl"]) == 2
    assert "measured trials are compared with --widths alone" in capsys.readouterr().err
