from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import record_factory as factory
from suggestions import commands_in, pasted, pasted_sweep

from vnbench.output.next_steps import next_steps
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_results

SHIPPED = Path(__file__).parents[2] / "results" / "cpu-intel-r-xeon-r-processor" / "readme.jsonl"
OUT = Path("results/cpu/sweep.jsonl")


def steps(records: Sequence[TrialRecord] = (), **changes: object) -> list[str]:
    values = {
        "centre": None,
        "out": OUT,
        "statuses": {"ok": 2},
        "is_ended_by_image": False,
        "num_unmeasured": 0,
        "num_repetitions": 0,
        "replicates": 1,
        "kinds": ("memory", "training"),
        "options": {"widths": "3200:12800", "batch-size": "1,2"},
        "run": {"examples": "15000", "epochs": "50"},
    }
    return list(next_steps(records, **(values | changes)))  # type: ignore[arg-type]


def test_a_whole_sweep_is_followed_by_three_commands_that_can_be_pasted() -> None:
    told = steps([factory.measured_training_record(factory.training_spec())])
    assert [line.partition(": ")[0] for line in told] == ["next"] * 3
    again, plan, report = commands_in(told)
    assert pasted_sweep(again).values["replicates"] == 3
    assert pasted(plan)["results"] == (OUT,)
    assert pasted(report)["out"] == Path("report")


def test_what_is_undecided_is_the_reason_for_more_processes() -> None:
    assert steps(load_results(SHIPPED).records)[0].startswith(
        "next: decide the effect of fp32, checkpointing stages and batch 2 on the time: vnbench sweep "
    )


def test_more_processes_than_there_were_are_asked_for() -> None:
    assert "--replicates 10" in steps(replicates=5)[0]


def test_what_found_no_time_comes_first() -> None:
    assert steps(num_unmeasured=2)[0] == (
        "next: measure the rest; the time budget starts again: vnbench sweep --widths 3200:12800 --batch-size 1,2"
    )
    assert steps(num_repetitions=3)[0].startswith("next: run the 3 repetitions that found no time, for narrower ")
    assert "--replicates" not in " ".join(steps(num_unmeasured=2))


def test_a_budget_in_which_no_trial_ended_is_not_suggested_again() -> None:
    told = steps(num_unmeasured=2, stuck_in_s=30.0)[0]
    assert told.startswith("next: no trial ended within 30 s; give it more time: vnbench sweep ")
    assert pasted_sweep(commands_in([told])[0]).values["time-budget"] == 90.0
    assert "give it more time" in steps(num_repetitions=2, stuck_in_s=30.0)[0]
    assert "more time" not in " ".join(steps(stuck_in_s=30.0))


def test_failed_trials_are_to_be_tried_again() -> None:
    assert "--retry crashed,timeout" in steps(statuses={"ok": 1, "timeout": 1, "crashed": 2})[0]


def test_where_nothing_was_timed_there_is_nothing_to_plan_with() -> None:
    assert not any("vnbench plan" in line or "vnbench report" in line for line in steps())
    memory = factory.measured_memory_record(factory.training_spec())
    assert not any("vnbench plan" in line for line in steps([memory]))


def test_memory_trials_alone_gain_nothing_from_more_processes_and_make_no_plan() -> None:
    memory = factory.measured_memory_record(factory.training_spec())
    assert [line.split()[-5:-2] for line in steps([memory], kinds=("memory",))] == [["vnbench", "report", str(OUT)]]


def test_images_that_ended_the_sweep_are_all_there_is_to_mend() -> None:
    (only,) = steps(is_ended_by_image=True, num_unmeasured=3)
    assert only.startswith("next: mend the images, or remove those that cannot be used, and measure again: vnbench sw")


def test_on_a_gpu_whose_fastest_batch_is_the_largest_the_largest_that_fits_is_searched() -> None:
    specs = [factory.training_spec(device="cuda", batch_size=size, micro_batch_size=size) for size in (1, 2)]
    slow, fast = (
        factory.record_of(spec, steps=steps_of, block=factory.block_of(steps_of))
        for spec, seconds in zip(specs, (2.0, 1.0), strict=True)
        for steps_of in [factory.steps_of([seconds, seconds])]
    )
    command = next(line for line in commands_in(steps([slow, fast])) if "--find-max-batch" in line)
    assert "batch-size" not in command
    assert pasted_sweep(command).values["find-max-batch"]
