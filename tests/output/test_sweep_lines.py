from __future__ import annotations

from pathlib import Path

from record_factory import some_pace, some_workload, training_spec

from vnbench.output.sweep_lines import dry_run_lines, interrupted_line, plan_lines, result_lines
from vnbench.sweep.budget import SweepEstimate
from vnbench.sweep.design import Design
from vnbench.sweep.estimate import TrialTimes

OUT = Path("results/cpu/sweep.jsonl")


def lines(**changes: object) -> list[str]:
    values = {
        "out": OUT,
        "statuses": {"ok": 2},
        "missing_kinds": {},
        "is_ended_by_image": False,
        "not_started": [],
        "num_repetitions": 0,
        "time_budget_s": None,
        "replicates": 1,
        "kinds": ("memory", "training"),
        "plots": [Path("results/cpu/sweep/step_time.png")],
        "plots_left_out": ["workers: run vnbench sweep --num-workers 0,2"],
        "options": {"widths": "3200:12800"},
    }
    return list(result_lines(**(values | changes)))  # type: ignore[arg-type]


def test_the_end_names_records_plots_what_was_left_out_and_the_next_command() -> None:
    assert lines() == [
        "not drawn: workers: run vnbench sweep --num-workers 0,2",
        "plots: results/cpu/sweep",
        "records: results/cpu/sweep.jsonl",
        "next: more processes narrow the intervals: vnbench sweep --widths 3200:12800 --replicates 3",
    ]


def test_more_processes_than_there_were_are_the_next_thing_to_try() -> None:
    assert "--replicates 10" in lines(replicates=5)[-1]


def test_what_the_budget_left_is_named_one_by_one() -> None:
    told = lines(not_started=[training_spec(), training_spec(batch_size=2)], time_budget_s=240.0)
    assert told[0] == "not measured within the time budget of 4 min:"
    assert "batch 1" in told[1]
    assert "batch 2" in told[2]
    assert "the same command again measures the rest, its time counted anew: vnbench sweep " in told[-1]


def test_repetitions_without_time_are_told_by_their_number() -> None:
    told = lines(num_repetitions=3, time_budget_s=240.0)
    assert told[-1].startswith("next: 3 repetitions found no time, and would narrow the intervals: vnbench sweep ")
    assert not any(line.startswith("not measured") for line in told)


def test_failed_trials_are_to_be_tried_again() -> None:
    assert "--retry crashed,timeout" in lines(statuses={"ok": 1, "timeout": 1, "crashed": 2})[-1]


def test_an_interruption_says_what_is_kept() -> None:
    assert interrupted_line(3, out=OUT) == (
        "interrupted: 3 finished trials kept in results/cpu/sweep.jsonl; run the same command again to go on"
    )


def test_a_dry_run_tells_what_each_trial_takes() -> None:
    times = TrialTimes(workload=some_workload(), pace=some_pace())
    told = list(dry_run_lines([training_spec(), training_spec(batch_size=2)], times=times))
    assert [line.split("]")[0] for line in told] == ["[1/2", "[2/2"]
    assert all(", about " in line for line in told)


def test_the_plan_says_how_long_it_takes_and_when_the_budget_ends_it() -> None:
    design = Design(cells=(), left_out=("batch 3: does not divide",), trials=())
    estimate = SweepEstimate(total_s=400.0, least_s=20.0)
    whole = list(plan_lines(design, num_due=2, out=OUT, estimate=estimate, budget_s=None))
    assert whole[1:] == ["estimated time: 6 min 40 s", "left out: batch 3: does not divide"]
    cut = list(plan_lines(design, num_due=2, out=OUT, estimate=estimate, budget_s=300.0))
    assert cut[1] == "estimated time: 6 min 40 s; the time budget ends it after 5 min"
    assert len(list(plan_lines(design, num_due=0, out=OUT, estimate=estimate, budget_s=None))) == 2


def test_memory_trials_alone_gain_nothing_from_more_processes() -> None:
    assert not any(line.startswith("next: ") for line in lines(kinds=("memory",)))
    assert any("measures the rest" in line for line in lines(kinds=("memory",), not_started=[training_spec()]))


def test_one_of_anything_is_told_as_one() -> None:
    design = Design(cells=(None,), left_out=(), trials=(None,))  # type: ignore[arg-type]
    estimate = SweepEstimate(total_s=400.0, least_s=20.0)
    first = next(iter(plan_lines(design, num_due=1, out=OUT, estimate=estimate, budget_s=None)))
    assert first.startswith("1 configuration in 1 trial;")
    assert interrupted_line(1, out=OUT).startswith("interrupted: 1 finished trial kept in")


def test_a_kind_of_which_nothing_was_measured_is_named_with_the_reason() -> None:
    assert "nothing was measured of training: 2 crashed; the first: a.png: is missing" in lines(
        missing_kinds={"training": "2 crashed; the first: a.png: is missing"}
    )


def test_an_image_that_ended_the_sweep_is_the_next_thing_to_mend() -> None:
    told = lines(is_ended_by_image=True, not_started=[training_spec()], statuses={"ok": 1, "crashed": 1})
    assert told[-1].startswith(
        "next: mend the images, or take out what cannot be used, and measure anew: vnbench sweep "
    )
