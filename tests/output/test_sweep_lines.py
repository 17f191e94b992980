from __future__ import annotations

from pathlib import Path

from record_factory import some_pace, some_workload, training_spec

from vnbench.output.sweep_lines import dry_run_lines, interrupted_line, plan_lines, result_lines
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.budget import SweepEstimate
from vnbench.sweep.cells import candidate_cells
from vnbench.sweep.design import Design
from vnbench.sweep.estimate import TrialTimes

OUT = Path("results/cpu/sweep.jsonl")
CPU = {"device_type": "cpu", "device_name": "Some CPU", "num_cpus": 2}


def lines(**changes: object) -> list[str]:
    values = {
        "out": OUT,
        "missing_kinds": {},
        "not_started": [],
        "time_budget_s": None,
        "plots": [Path("results/cpu/sweep/step_time.png")],
        "plots_left_out": ["workers: no two trials differ; measure with: vnbench sweep --num-workers 0,2"],
    }
    return list(result_lines(**(values | changes)))  # type: ignore[arg-type]


def test_the_end_names_records_and_figures_and_those_that_need_other_trials() -> None:
    assert lines() == [
        "figures: results/cpu/sweep (not drawn: workers; vnbench plot lists what to measure)",
        "records: results/cpu/sweep.jsonl",
    ]


def test_a_figure_that_could_not_be_written_is_told_with_its_reason() -> None:
    told = lines(plots_left_out=["drift: results cannot be written (File exists)"])
    assert told[0] == "not drawn: drift: results cannot be written (File exists)"
    assert told[1] == "figures: results/cpu/sweep"


def test_what_the_budget_left_is_named_one_by_one() -> None:
    told = lines(not_started=[training_spec(), training_spec(batch_size=2)], time_budget_s=240.0)
    assert told[0] == "not measured within the time budget of 4 min:"
    assert "batch 1" in told[1]
    assert "batch 2" in told[2]


def test_an_interruption_says_what_is_kept() -> None:
    assert interrupted_line(3, out=OUT) == (
        "interrupted: 3 finished trials kept in results/cpu/sweep.jsonl; run the same command again to continue"
    )


def test_a_dry_run_tells_what_each_trial_takes() -> None:
    times = TrialTimes(workload=some_workload(), pace=some_pace())
    told = list(dry_run_lines([training_spec(), training_spec(batch_size=2), training_spec()], times=times))
    assert [line.partition(":")[0] for line in told] == ["2 x training", "1 x training"]
    assert told[0].endswith(" each")
    assert all(", about " in line for line in told)


def test_a_dry_run_marks_what_finds_no_time() -> None:
    times = TrialTimes(workload=some_workload(), pace=some_pace())
    small, large = training_spec(), training_spec(batch_size=2)
    told = list(dry_run_lines([small, large, small], times=times, left_s=1.5 * times.of(small)))
    assert [line.partition("; ")[2] for line in told] == ["no time for 1 of them", "no time for it"]
    told = list(dry_run_lines([small, small], times=times, left_s=0.0))
    assert [line.partition("; ")[2] for line in told] == ["no time for any of them"]


def planned(
    *options: str, num_due: int = 2, budget_s: float | None = None, once_s: float = 0.0, **parts: object
) -> list[str]:
    flags = dict(zip(options[::2], options[1::2], strict=True))
    config = complete(read_request({"widths": "64:160", **flags}, config_path=None), environment=CPU)
    cells = candidate_cells(config)
    design = Design(**({"cells": cells, "left_out": (), "trials": (None,) * 2} | parts))  # type: ignore[arg-type]
    estimate = SweepEstimate(total_s=400.0, least_s=20.0, once_s=once_s)
    return list(plan_lines(design, config, num_due=num_due, out=OUT, estimate=estimate, budget_s=budget_s))


def test_the_plan_says_what_is_measured_and_how_long_it_takes() -> None:
    axes = ("precision", "bf16,fp32", "norm-precision", "fp32", "checkpointing", "none", "num-workers", "0")
    whole = planned(*axes, "batch-size", "1,2", left_out=("batch 3: does not divide",))
    assert whole[0] == (
        "measuring: veernet-tiny in batch 1, bf16, norm in fp32, no checkpointing, bucketed sampler, 0 workers; then "
        "one change at a time: fp32; batch 2; batch 2, random sampler"
    )
    assert whole[1] == "estimated time: 6 min 40 s for 4 configurations in 2 trials"
    assert "left out: batch 3: does not divide" in whole
    assert whole[-1] == f"records: {OUT}"
    assert planned(*axes, num_due=0)[1].startswith("nothing is left to measure: ")


def test_a_budget_that_ends_a_sweep_is_its_estimated_time_and_what_it_leaves_out_is_told() -> None:
    repeats = planned(budget_s=300.0, once_s=200.0)
    assert repeats[1].startswith("estimated time: 5 min, the time budget; without it 6 min 40 s for ")
    assert repeats[1].endswith(". Each configuration is measured once first: only repeats are left out")
    configurations = planned(budget_s=300.0, once_s=340.0)[1]
    assert configurations.endswith(". Some configurations are left out: to measure each once takes 5 min 40 s")
    assert not any("to fit" in line for line in (*repeats, configurations))


def test_a_full_design_is_told_by_its_axes() -> None:
    told = planned("design", "full", "batch-size", "1,2", "precision", "fp32", "norm-precision", "fp32")[0]
    assert told.startswith("measuring: veernet-tiny, every combination of batch-size 1, 2; checkpointing none, stages;")


def test_a_factored_design_says_that_confirmations_follow() -> None:
    told = planned("design", "factored", "replicates", "2")
    assert told[0].startswith("measuring: veernet-tiny, computing and loading apart, to forecast of batch-size 1, 2;")
    assert told[2].startswith(
        "then, not in this time: the 3 fastest combinations and 2 random ones are trained, each 2 x"
    )
    assert not any(line.startswith("then") for line in planned())


def test_what_a_cpu_sweep_chose_by_itself_is_told_with_the_options_that_choose_otherwise() -> None:
    (why,) = (line for line in planned() if line.startswith("chosen "))
    assert why.startswith("chosen for this machine and --time-budget 4 min 30 s: ")
    assert " at most 1 process per configuration" in why
    assert "--replicates 1 " in why
    assert not any(line.startswith("chosen") for line in planned("subset", "2"))


def test_one_of_anything_is_told_as_one() -> None:
    one = planned("batch-size", "1", num_due=1, cells=(), trials=(None,))
    assert one[1] == "estimated time: 6 min 40 s for 0 configurations in 1 trial"
    assert interrupted_line(1, out=OUT).startswith("interrupted: 1 finished trial kept in")


def test_a_kind_of_which_nothing_was_measured_is_named_with_the_reason() -> None:
    assert "nothing was measured of training: 2 crashed; the first: a.png: is missing" in lines(
        missing_kinds={"training": "2 crashed; the first: a.png: is missing"}
    )
