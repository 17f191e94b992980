from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
from suggestions import commands_in, pasted_sweep

from vnbench.analysis.planning.spread import Finish
from vnbench.cli.app import run
from vnbench.output.words.capacity_plan import probability
from vnbench.records.record import TrialRecord, TrialWarning
from vnbench.records.spec.trial_spec import TrainingSpec

RUN = ["--examples", "600", "--epochs", "10"]
GPU: dict[str, Any] = {"device": "cuda", "model": "veernet"}


def write(path: Path, records: Sequence[TrialRecord]) -> str:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture(name="results")
def _results(tmp_path: Path) -> str:
    return write(tmp_path / "campaign.jsonl", factory.gpu_campaign())


def plan(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["plan", *arguments, "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int) -> str:
    assert run(["plan", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_the_promised_keys_are_there(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = plan([results, *RUN, "--window", "12h"], capsys)
    assert report.keys() >= {"recommended", "configurations", "warnings"}
    best = report["recommended"]
    assert best.keys() >= {"spec", "wall_clock_s", "probability_finish", "snapshot_interval_s", "peak_reserved_bytes"}
    times = best["wall_clock_s"]
    assert 0 < times["p10"] < times["p50"] < times["p90"]
    assert sum(best["shares"].values()) == pytest.approx(1.0)
    assert best["fits"] == "fits"
    assert best["wall_clock_s"]["p50"] == min(
        one["wall_clock_s"]["p50"] for one in report["configurations"] if one["fits"] == "fits"
    )


def test_a_plan_counts_the_disturbed_trials_behind_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warning = TrialWarning(code="busy-cores", message="other programs used 1 core")
    records = factory.gpu_campaign()
    calm = plan([write(tmp_path / "calm.jsonl", records), *RUN], capsys)["warnings"]
    assert not any("disturbed" in line for line in calm)
    busy = [
        dataclasses.replace(one, warnings=(warning,)) if one.kind in ("compute", "memory") else one for one in records
    ]
    told = plan([write(tmp_path / "busy.jsonl", busy), *RUN], capsys)["warnings"]
    num_compute = sum(one.kind == "compute" for one in records)
    num_timed = num_compute + sum(one.kind == "loader" for one in records)
    (line,) = (line for line in told if "disturbed" in line)
    assert line.startswith(f"{num_compute} of {num_timed} trials behind this plan were disturbed")


def test_the_same_seed_gives_the_same_answer(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [results, *RUN, "--mtbi", "1h", "--window", "2h"]
    assert plan(arguments, capsys) == plan(arguments, capsys)


def test_twice_the_examples_take_twice_the_time_but_for_what_comes_once(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = plan([results, "--examples", "4000", "--epochs", "4", "--batch-size", "4"], capsys)["recommended"]
    large = plan([results, "--examples", "8000", "--epochs", "4", "--batch-size", "4"], capsys)["recommended"]
    assert small["spec"] == large["spec"]
    once_s = small["start_up_s"] + small["new_shapes_s"]
    assert large["start_up_s"] == small["start_up_s"]
    growing = [one["wall_clock_s"]["p50"] - once_s for one in (small, large)]
    assert growing[1] / growing[0] == pytest.approx(2.0, rel=0.05), "bucketing pads less with more examples"


def test_a_smaller_card_takes_what_fits_it_and_says_what_would(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    every = plan([results, *RUN], capsys)["configurations"]
    needs = sorted(one["peak_reserved_bytes"] for one in every if one["peak_reserved_bytes"] is not None)
    limit = needs[0] * 1.2
    report = plan([results, *RUN, "--memory", f"{limit / 2**30:.3f}GiB"], capsys)
    assert report["recommended"]["peak_reserved_bytes"] <= limit
    message = refusal([results, *RUN, "--memory", "100MiB"], capsys, code=3)
    assert "nothing fits" in message
    assert f"needs {needs[0] / 2**30:.3g} GiB" in message
    assert "--checkpointing stages" in message


def test_snapshots_turn_interruptions_from_a_loss_into_a_tax(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    calm = plan([results, *RUN], capsys)["recommended"]
    window = f"{1.4 * calm['wall_clock_s']['p50'] + 3 * 300:.0f}s"
    report = plan([results, *RUN, "--interruptions", "3", "--window", window], capsys)["recommended"]
    assert report["spec"] == calm["spec"]
    assert report["wall_clock_s"]["p50"] > calm["wall_clock_s"]["p50"] + 3 * 300
    assert report["without_snapshots"]["p50"] > report["wall_clock_s"]["p50"]
    assert report["probability_finish"] > report["without_snapshots"]["probability_finish"]
    assert report["snapshot_interval_steps"] >= 1
    assert report["shares"]["interruptions"] > 0


def test_a_snapshot_interval_of_ones_own_is_taken_in_whole_steps(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [results, *RUN, "--interruptions", "3", "--snapshot-interval"]
    best, every, epoch, none = (
        plan([*arguments, rule], capsys)["recommended"] for rule in ("best", "90s", "epoch", "none")
    )
    assert every["snapshot_interval_s"] == pytest.approx(90, rel=0.05)
    steps = every["snapshot_interval_s"] / every["computing_s"] * every["steps_per_epoch"]
    assert steps == pytest.approx(every["snapshot_interval_steps"])
    assert epoch["snapshot_interval_s"] == epoch["epoch_s"]
    assert epoch["wall_clock_s"]["p50"] == best["snapshot_per_epoch"]["p50"]
    assert none["snapshot_interval_s"] is None
    assert none["wall_clock_s"]["p50"] == best["without_snapshots"]["p50"]
    means = [one["wall_clock_s"]["mean"] for one in (best, every, epoch, none)]
    assert means[0] == min(means)
    assert run(["plan", *arguments, "none"]) == 0
    assert "as asked" in capsys.readouterr().out
    assert "--snapshot-interval" in refusal([*arguments, "often"], capsys, code=2)


def test_workers_can_be_held_to_those_that_there_are(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = plan([results, *RUN, "--num-workers", "1"], capsys)
    assert {one["spec"]["num_workers"] for one in report["configurations"]} == {1}
    assert not any("if a loader of that micro-batch" in line for line in report["warnings"])
    message = refusal([results, *RUN, "--num-workers", "3"], capsys, code=3)
    assert "no loader" in message
    assert "1, 4" in message


def test_configurations_without_such_a_loader_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = factory.gpu_campaign()
    spec = factory.loader_spec(**GPU, batch_size=4, num_workers=2, sampler="bucketed")
    path = write(tmp_path / "r.jsonl", [*records, factory.measured_loader_record(spec)])
    report = plan([path, *RUN, "--num-workers", "2"], capsys)
    assert {one["spec"]["micro_batch_size"] for one in report["configurations"]} == {4}
    assert any("could be planned if a loader of that micro-batch" in line for line in report["warnings"])
    assert "write --images DIR in place of --widths and --heights" in report["warnings"][-1]


def test_a_lever_can_be_held(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = plan([results, *RUN, "--hold", "precision=fp32,checkpointing=none"], capsys)
    assert {one["spec"]["precision"] for one in report["configurations"]} == {"fp32"}
    assert report["recommended"]["spec"]["precision"] == "fp32"
    assert "no measured configuration" in refusal([results, *RUN, "--hold", "precision=fp16"], capsys, code=3)
    assert "--hold" in refusal([results, *RUN, "--hold", "speed=9"], capsys, code=2)


def test_a_snapshot_interval_longer_than_the_run_is_none(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [results, *RUN, "--interruptions", "3", "--snapshot-interval"]
    long, none = (plan([*arguments, rule], capsys)["recommended"] for rule in ("1000h", "none"))
    assert long["snapshot_interval_s"] is None
    assert long["wall_clock_s"] == none["wall_clock_s"]


def test_changes_are_told_one_at_a_time(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batch-size", "4", "--current", "precision=fp32,micro-batch-size=4,sampler=bucketed"]
    report = plan([results, *RUN, *options], capsys)
    assert report["current"]["spec"]["precision"] == "fp32"
    levers = {(one["lever"], one["to"]) for one in report["changes"]}
    assert ("precision", "bf16") in levers
    assert ("micro_batch_size", 1) in levers
    for one in report["changes"]:
        different = {name for name, value in one["spec"].items() if value != report["current"]["spec"][name]}
        assert different - {"num_workers"} <= {one["lever"]}
    (faster,) = (one for one in report["changes"] if one["lever"] == "precision")
    assert faster["saved_s"] > 0


def test_changing_nothing_is_an_answer(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = plan([results, *RUN, "--window", "10d"], capsys)
    assert report["fits_in_time"]["spec"] == report["current"]["spec"]
    assert run(["plan", results, *RUN, "--window", "10d"]) == 0
    assert "No change is needed" in " ".join(capsys.readouterr().out.split())


def test_the_cheapest_change_that_makes_it_fit_is_told(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batch-size", "4", "--current", "precision=fp32,micro-batch-size=4,sampler=bucketed"]
    report = plan([results, *RUN, *options], capsys)
    (faster,) = (one for one in report["changes"] if one["lever"] == "precision")
    between = (faster["wall_clock_s"]["p90"] + report["current"]["wall_clock_s"]["p10"]) / 2
    assert faster["wall_clock_s"]["p90"] < between
    found = plan([results, *RUN, *options, "--window", f"{between:.1f}s"], capsys)
    assert found["fits_in_time"]["spec"]["precision"] == "bf16"


def test_another_device_has_a_bracket_and_no_single_number(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    here = plan([results, *RUN], capsys)["recommended"]["wall_clock_s"]
    there = plan([results, *RUN, "--device-scale", "2"], capsys)["recommended"]
    assert there["wall_clock_s"]["p50"] is None
    assert there["wall_clock_s"]["p10"] == pytest.approx(1.5 * here["p10"])
    assert there["wall_clock_s"]["p90"] == pytest.approx(2.5 * here["p90"])
    assert there["evidence"] == "other GPU"


def test_a_card_of_the_same_model_has_a_wider_interval(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    here = plan([results, *RUN], capsys)["recommended"]["wall_clock_s"]
    there = plan([results, *RUN, "--device-scale", "1"], capsys)["recommended"]
    assert there["evidence"] == "same GPU elsewhere"
    assert there["wall_clock_s"]["p50"] == here["p50"]
    assert there["wall_clock_s"]["p10"] < here["p10"] < here["p90"] < there["wall_clock_s"]["p90"]


def test_memory_that_nobody_measured_is_said_to_be_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = plan([write(tmp_path / "m.jsonl", without_peaks()), *RUN], capsys)
    assert report["recommended"]["fits"] == "unknown"
    told = [line for line in report["warnings"] if line.startswith("whether the worst case fits was not measured")]
    (command,) = commands_in(told)
    values = pasted_sweep(command).values
    assert (values["kind"], values["model"]) == (("memory",), "veernet")


def test_every_command_that_a_plan_suggests_can_be_pasted(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warnings = [
        *plan([write(tmp_path / "m.jsonl", without_peaks()), *RUN], capsys)["warnings"],
        *plan([results, *RUN, "--num-workers", "4"], capsys)["warnings"],
        *plan([write(tmp_path / "c.jsonl", factory.cpu_sweep()), *RUN], capsys)["warnings"],
    ]
    failed = write(tmp_path / "f.jsonl", [factory.record_of(factory.training_spec(), status="oom")])
    warnings.append(refusal([failed, *RUN], capsys, code=3).strip())
    commands = commands_in(warnings)
    assert len(commands) == sum("vnbench sweep" in line for line in warnings) > 2
    for command in commands:
        assert {"widths", "model", "precision", "device", "kind"} <= pasted_sweep(command).values.keys()


def test_samplers_that_cannot_be_planned_with_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = factory.cpu_sweep()
    trained = next(record for record in records if record.kind == "training")
    budgeted = dataclasses.replace(trained.spec, sampler="pixel-budget", pixel_budget=10**7)
    path = write(tmp_path / "m.jsonl", [*records, dataclasses.replace(trained, spec=budgeted)])
    (told,) = (line for line in plan([path, *RUN], capsys)["warnings"] if "nothing is planned with" in line)
    assert "with pixel-budget:" in told


def test_one_size_gives_a_rough_plan_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = factory.compute_spec(canvas_sizes=((640, 6400),))
    path = write(tmp_path / "one.jsonl", [factory.measured_compute_record(spec)])
    report = plan([path, *RUN, "--widths", "3200:12800"], capsys)
    times = report["recommended"]["wall_clock_s"]
    assert times["p90"] / times["p10"] > 1.2
    assert any("only 1 size timed" in warning for warning in report["warnings"])
    assert not any("0 % of the passes" in warning for warning in report["warnings"])


def test_loading_whose_error_nothing_tells_is_taken_to_be_off_by_a_tenth_and_the_plan_says_so(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_one_batch(record: TrialRecord) -> TrialRecord:
        stages = (
            dataclasses.replace(
                stage, stop=dataclasses.replace(stage.stop, relative_half_width=None, num_observations=1)
            )
            for stage in record.stages
        )
        return dataclasses.replace(record, stages=tuple(stages))

    # Without workers loading adds to computing, so what is not known of it shows.
    loader = factory.loader_spec(**GPU, batch_size=4, num_workers=0, sampler="bucketed")
    computed = [record for record in factory.gpu_campaign() if record.kind != "loader"]
    known, unknown = (
        plan([write(tmp_path / "r.jsonl", [*computed, record]), *RUN, "--hold", "micro-batch-size=4"], capsys)
        for measured in [factory.measured_loader_record(loader)]
        for record in (measured, of_one_batch(measured))
    )
    times = [report["recommended"]["wall_clock_s"] for report in (known, unknown)]
    widths = [one["p90"] / one["p10"] for one in times]
    assert widths[1] > widths[0] + 0.02
    (told,) = (line for line in unknown["warnings"] if "the error of the loading times is unknown" in line)
    assert told not in known["warnings"]
    (command,) = commands_in([told])
    assert pasted_sweep(command).values["kind"] == ("loader",)


def test_a_snapshot_per_epoch_is_compared_with_the_best_interval(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    best = plan([results, "--examples", "20000", "--epochs", "3", "--mtbi", "10m", "--window", "2h"], capsys)[
        "recommended"
    ]
    assert best["wall_clock_s"]["p50"] < best["snapshot_per_epoch"]["p50"] < best["without_snapshots"]["p50"]


def test_a_price_gives_hours_and_cost(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    best = plan([results, *RUN, "--price-per-hour", "4"], capsys)["recommended"]
    assert best["cost"] == pytest.approx(4 * best["device_hours"])
    assert best["device_hours"] == pytest.approx(best["wall_clock_s"]["mean"] / 3600)
    assert best["energy_kwh"] == pytest.approx(best["device_hours"] * factory.POWER_W / 1000)


def test_validation_adds_a_forward_pass_per_epoch(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    without = plan([results, *RUN], capsys)["recommended"]
    with_it = plan([results, *RUN, "--validation", "200"], capsys)["recommended"]
    assert with_it["validation_s"] > 0
    assert with_it["wall_clock_s"]["p50"] > without["wall_clock_s"]["p50"] + 9 * with_it["validation_s"]


def test_the_first_lines_answer(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    long = ["--examples", "20000", "--epochs", "10"]
    assert run(["plan", results, *long, "--mtbi", "30m", "--window", "3h", "--price-per-hour", "3.5"]) == 0
    text = capsys.readouterr().out
    first = " ".join(text.split())
    assert first.startswith("20,000 examples of 48")
    assert "px, 10 epochs: " in first
    for part in (
        "Probability that it finishes within 3 h:",
        "Worst-case memory",
        "Uncertainty: ",
        "save one every",
        "Young's formula gives",
        "batch_size, micro_batch_size =",
        "One change at a time",
        "device hours",
    ):
        assert part in first, part


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.0, "0 %"), (0.01, "under 5 %"), (0.06, "6 %"), (0.95, "95 %"), (0.97, "over 95 %"), (1.0, "100 %")],
)
def test_a_small_probability_is_told_as_no_more_than_small(share: float, told: str) -> None:
    assert probability(Finish(p10=1.0, p50=2.0, p90=3.0, mean=2.0, probability=share)) == told


def test_a_change_is_told_with_the_sign_of_what_it_adds(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", results, *RUN, "--current", "checkpointing=none,precision=bf16"]) == 0
    (line,) = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith("checkpointing none -> stages ")
    )
    assert re.search(r" \+\d.* -\d", line), "more time and less memory"


def test_training_trials_alone_can_be_planned_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "sweep.jsonl", factory.cpu_sweep())
    report = plan([path, "--examples", "200", "--epochs", "2"], capsys)
    assert report["recommended"]["evidence"] in ("measured", "extrapolated")
    assert any("no forecast for a GPU" in warning for warning in report["warnings"])
    best = report["recommended"]
    assert best["loading_s"] > 0, "what training waited for"
    assert best["epoch_s"] == pytest.approx(best["computing_s"] + best["loading_s"])
    assert any(
        "loading" in warning
        for warning in plan([without_loading(path), "--examples", "200", "--epochs", "2"], capsys)["warnings"]
    )


def without_loading(path: str) -> str:
    """Return a file with compute trials alone."""
    other = Path(path).with_name("compute.jsonl")
    return write(other, factory.compute_sweep(device="cpu"))


def test_training_trials_alone_plan_for_the_images_that_they_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "sweep.jsonl", factory.cpu_sweep())
    assert run(["plan", path, "--examples", "200", "--epochs", "2"]) == 0
    assert "640 x 12,800 px" in " ".join(capsys.readouterr().out.split()), "the factory's canvases"


def test_without_results_the_records_that_ship_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *RUN, "--json"]) == 0
    captured = capsys.readouterr()
    assert "planning from the records that ship" in captured.err
    assert json.loads(captured.out)["sources"]


def test_a_plan_from_the_records_that_ship_says_first_what_they_were_measured_on(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", *RUN]) == 0
    first, _, rest = " ".join(capsys.readouterr().out.split()).partition(" with --card. ")
    assert first.startswith("This is an example, planned from the records that ship: veernet-tiny on CPU AMD EPYC, ")
    assert "images of 96 to 128 x 640 to 2560 px" in first
    assert rest.startswith("600 examples of ")
    assert run(["plan", results, *RUN]) == 0
    assert capsys.readouterr().out.startswith("600 examples of ")


def test_records_of_ones_own_that_a_plan_does_not_use_are_named(
    results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plan", *RUN]) == 0
    assert "your own" not in capsys.readouterr().err
    own = Path("results") / "nvidia-h200" / "sweep-8a48.jsonl"
    own.parent.mkdir(parents=True)
    own.write_bytes(Path(results).read_bytes())
    assert run(["plan", *RUN]) == 0
    assert f"your own are not used; name them: vnbench plan {own}\n" in capsys.readouterr().err


def test_a_file_of_sizes_tells_how_many_examples_there_are(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = tmp_path / "sizes.csv"
    sizes.write_text("height,width\n" + "480,3200\n640,9984\n" * 20, encoding="utf-8")
    assert plan([results, "--epochs", "2", "--sizes", str(sizes)], capsys)["num_examples"] == 40


def test_two_changes_to_one_batch_differ_in_their_micro_batch(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ["--batch-size", "1,4", "--current", "batch-size=1,micro-batch-size=1,precision=bf16,sampler=bucketed"]
    assert run(["plan", results, *RUN, *whole]) == 0
    changes = re.findall(r"^batch-size 1 -> \d+(?:, micro-batch \d+)?", capsys.readouterr().out, flags=re.M)
    assert "batch-size 1 -> 4" in changes
    assert "batch-size 1 -> 4, micro-batch 1" in changes
    assert len(set(changes)) == len(changes)


def test_bad_input_is_one_message(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([results, "--examples", "600"], "--epochs: it is required"),
        ([results, "--examples", "0", "--epochs", "1"], "--examples"),
        ([results, *RUN, "--window", "0h"], "--window"),
        ([results, *RUN, "--memory", "24"], "--memory"),
        ([results, *RUN, "--mtbi", "1h", "--interruptions", "2"], "leave out one of them"),
        ([results, *RUN, "--device-scale", "0"], "--device-scale"),
        ([results, *RUN, "--interruptions", "-1"], "--interruptions"),
        ([results, "--examples", "4", "--epochs", "1", "--interruptions", "9"], "more interruptions than steps"),
        ([str(tmp_path / "none.jsonl"), *RUN], "none.jsonl"),
    ):
        assert message in refusal(arguments, capsys, code=2)


def test_what_cannot_be_planned_is_told(results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = write(tmp_path / "f.jsonl", [factory.record_of(factory.compute_spec(), status="oom")])
    own = "(for images of your own: --images DIR in place of --widths and --heights) with: vnbench sweep "
    assert own in refusal([failed, *RUN], capsys, code=3)
    assert "nothing can be planned from it" in refusal([failed, *RUN], capsys, code=3)
    assert run(["plan", failed, *RUN, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["recommended"] is None
    assert "no configuration" in refusal([results, *RUN, "--batch-size", "4096"], capsys, code=3)
    assert "--current" in refusal([results, *RUN, "--current", "precision=tf32"], capsys, code=3)
    assert "no configuration is known to fit" in refusal(
        [write(tmp_path / "m.jsonl", without_peaks()), *RUN, "--memory", "24GiB"], capsys, code=3
    )


def without_peaks() -> list[TrialRecord]:
    no_memory = [record for record in factory.gpu_campaign() if record.kind != "memory"]
    return [
        dataclasses.replace(
            record, canvases=tuple(dataclasses.replace(one, peak_allocated_bytes=None) for one in record.canvases)
        )
        for record in no_memory
    ]


def test_sizes_are_those_that_were_measured_unless_told(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = plan([results, *RUN], capsys)["recommended"]
    wide = plan([results, *RUN, "--widths", "25000:25600"], capsys)
    assert own["evidence"] == "interpolated"
    assert wide["recommended"]["evidence"] == "extrapolated"
    (same,) = (one for one in wide["configurations"] if one["spec"] == own["spec"])
    assert same["peak_reserved_bytes"] > 1.9 * own["peak_reserved_bytes"], "the worst case is another one"
    assert any("extrapolated" in warning for warning in wide["warnings"])


TEAM = """
cards = 2
window = "3d"
[[run]]
name = "long"
examples = 4000
epochs = 20
[[run]]
name = "short"
examples = 500
epochs = 5
precision = "none"
[[run]]
name = "middle"
examples = 2000
epochs = 20
batch-size = "4"
"""


def test_several_runs_go_to_the_card_that_is_free_first(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "week.toml"
    runs.write_text(TEAM.replace('precision = "none"\n', ""))
    report = plan([results, "--runs", str(runs), "--out", str(tmp_path / "plots")], capsys)
    placed = {one["name"]: one for one in report["runs"]}
    assert placed["long"]["start_s"] == placed["middle"]["start_s"] == 0
    assert placed["long"]["card"] != placed["middle"]["card"]
    assert placed["short"]["card"] == placed["middle"]["card"]
    assert placed["short"]["start_s"] == pytest.approx(placed["middle"]["end_s"])
    assert placed["short"]["late_end_s"] > placed["short"]["end_s"]
    assert placed["middle"]["recommended"]["spec"]["batch_size"] == 4
    assert {Path(path).suffix for path in report["plots"]} == {".png", ".svg"}
    runs.write_text(TEAM.replace('precision = "none"\n', "").replace('"3d"', '"1s"'))
    assert sorted(plan([results, "--runs", str(runs)], capsys)["left_out"]) == ["long", "middle", "short"]
    assert run(["plan", results, "--runs", str(runs)]) == 0
    assert "no room" in capsys.readouterr().out


def test_a_file_of_runs_that_cannot_be_used_is_refused(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "week.toml"
    for text, message in (
        (TEAM, "precision: there is no such option"),
        ("cards = 0\n[[run]]\nexamples = 1\nepochs = 1", "cards"),
        ("cards = 1", "[[run]]"),
        ("cards = [", "not TOML"),
        ("color = 1\n[[run]]\nexamples = 1", "there is no color"),
        ('[[run]]\nname = "a"\nexamples = 100\n', "--epochs"),
        ('[[run]]\nname = "a"\n[[run]]\nname = "a"', "two runs are called a"),
    ):
        runs.write_text(text)
        assert message in refusal([results, "--runs", str(runs)], capsys, code=2)
    assert "cannot be read" in refusal([results, "--runs", str(tmp_path / "none.toml")], capsys, code=2)


def test_snapshots_that_cost_more_than_they_save_are_not_taken(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [results, *RUN, "--interruptions", "3", "--snapshot-cost", "1000h"]
    best = plan(arguments, capsys)["recommended"]
    assert best["snapshot_interval_s"] is None
    assert best["wall_clock_s"] == best["wall_clock_s"] | {"p50": best["without_snapshots"]["p50"]}
    assert run(["plan", *arguments]) == 0
    assert "Take no snapshots" in capsys.readouterr().out


def test_hopeless_and_countless_interruptions_are_answered_at_once(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    never = plan([results, *RUN, "--mtbi", "1s", "--window", "1h"], capsys)["recommended"]
    assert never["wall_clock_s"]["p50"] is None
    assert never["probability_finish"] == 0
    many = plan([results, "--examples", "20000", "--epochs", "10", "--interruptions", "5000"], capsys)["recommended"]
    assert many["wall_clock_s"]["p50"] > 5000 * 300
    assert "at most 1,000,000" in refusal([results, "--examples", "10000000", "--epochs", "1"], capsys, code=2)


def test_lines_to_paste_name_only_levers_that_the_network_has(
    results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", results, *RUN]) == 0
    assert 'precision, norm_precision = "bf16", "fp32"' in capsys.readouterr().out
    own: dict[str, Any] = {"device": "cuda", "model": "unet:build", "model_id": "0123456789ab", "precision": "bf16"}
    records = [factory.measured_compute_record(factory.compute_spec(**own), replicate=number) for number in range(3)]
    records.append(factory.measured_memory_record(factory.training_spec(**own)))
    assert run(["plan", write(tmp_path / "own.jsonl", records), *RUN]) == 0
    out = capsys.readouterr().out
    assert 'precision = "bf16"' in out
    assert "norm_precision" not in out


def test_lines_to_paste_name_selective_checkpointing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levers: dict[str, Any] = {"device": "cuda", "model": "veernet", "checkpointing": "selective"}
    records = [factory.measured_compute_record(factory.compute_spec(**levers), replicate=number) for number in range(3)]
    records.append(factory.measured_memory_record(factory.training_spec(**levers)))
    assert run(["plan", write(tmp_path / "r.jsonl", records), *RUN]) == 0
    assert "activation_checkpointing = 'selective'" in capsys.readouterr().out


def test_without_numbers_the_published_run_is_planned_and_that_is_said(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", results, "--json"]) == 0
    bare = capsys.readouterr()
    assert "planning the published run: 15,000 examples, 50 epochs" in bare.err
    assert run(["plan", results, "--examples", "15000", "--epochs", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recommended"] == json.loads(bare.out)["recommended"]


def test_a_run_that_does_not_finish_in_time_says_how_far_it_gets_and_what_would(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ["--examples", "20000", "--epochs", "100", "--window", "3h"]
    best = plan([results, *long], capsys)["recommended"]
    assert run(["plan", results, *long]) == 0
    text = " ".join(capsys.readouterr().out.split())
    told = re.search(r"In 3 h it trains (\d+) of 100 epochs; a device ([\d.]+) times as fast would finish\.", text)
    assert told is not None
    assert int(told[1]) == 3 * 3600 // best["epoch_s"]
    assert float(told[2]) == pytest.approx(best["wall_clock_s"]["p50"] / (3 * 3600), rel=0.05)


def test_two_networks_are_planned_apart_each_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [
        factory.measured_training_record(
            dataclasses.replace(record.spec, model="net.py:build", model_id="0123456789ab")
        )
        for record in factory.cuda_sweep()
        if isinstance(record.spec, TrainingSpec)
    ]
    both = write(tmp_path / "both.jsonl", [*factory.gpu_campaign(), *own])
    assert run(["plan", both, *RUN]) == 3
    told = capsys.readouterr().err
    assert "a plan is of one network" in told
    assert "net.py:build 0123456789ab (" in told
    alone = write(tmp_path / "alone.jsonl", factory.gpu_campaign())
    assert plan([both, *RUN, "--model", "veernet"], capsys)["recommended"] == plan([alone, *RUN], capsys)["recommended"]
    by_name = plan([both, *RUN, "--model", "net.py:build"], capsys)
    assert by_name["recommended"] == plan([both, *RUN, "--model", "net.py:build 0123456789ab"], capsys)["recommended"]
    assert run(["plan", both, *RUN, "--model", "unet"]) == 2
