from __future__ import annotations

import io

import pytest
from record_factory import (
    measured_memory_record,
    measured_training_record,
    memory_spec,
    record_of,
    some_pace,
    some_workload,
    training_spec,
)
from rich.console import Console

from vnbench.output.progress import ANNOUNCED_S, SweepProgress, describe_outcome, describe_trial
from vnbench.records.record import Cause, TrialWarning
from vnbench.sweep.estimate import TrialTimes


def times() -> TrialTimes:
    return TrialTimes(workload=some_workload(), pace=some_pace())


def test_without_a_terminal_each_trial_is_one_plain_line_with_its_warnings_by_code_and_an_estimate() -> None:
    text = io.StringIO()
    specs = [memory_spec(training_spec()), training_spec()]
    warning = TrialWarning(code="few-steps", message="only 3 steps")
    records = [measured_memory_record(specs[1]), measured_training_record(specs[1], warnings=(warning,))]
    with SweepProgress(specs, times=times(), console=Console(file=text, width=60)) as progress:
        for spec, record in zip(specs, records, strict=True):
            progress.started(spec, 1)
            progress.finished(record)
    lines = [line for line in text.getvalue().splitlines() if line.startswith("[")]
    assert lines[0].startswith("[1/2] memory: micro-batch 1, fp32, norm fp32: ")
    assert lines[0].endswith(" left)")
    assert lines[1].startswith("[2/2] training: batch 1,")
    assert " valid Mpx/s in " in lines[1]
    assert lines[1].endswith("; few-steps")
    assert "only 3 steps" not in text.getvalue()
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize(("budget_left_s", "told"), [(7.0, "(at most 7 s left)"), (1e9, "(about ")])
def test_the_time_left_is_never_more_than_that_of_the_budget(budget_left_s: float, told: str) -> None:
    text = io.StringIO()
    specs, pace = [training_spec()] * 2, TrialTimes(workload=some_workload(), pace=some_pace(fp32=10.0))
    console = Console(file=text, width=200)
    with SweepProgress(specs, times=pace, console=console, budget_left_s=lambda: budget_left_s) as progress:
        progress.finished(measured_training_record(specs[0]))
    assert told in text.getvalue()


@pytest.mark.parametrize(("s_per_mpx", "is_announced"), [(0.001, False), (10.0, True)])
def test_only_a_long_trial_has_a_line_when_it_starts_without_a_terminal(s_per_mpx: float, is_announced: bool) -> None:
    text = io.StringIO()
    spec = training_spec()
    pace = TrialTimes(workload=some_workload(), pace=some_pace(fp32=s_per_mpx))
    assert (pace.of(spec) >= ANNOUNCED_S) is is_announced
    with SweepProgress([spec], times=pace, console=Console(file=text, width=60)) as progress:
        progress.started(spec, 1)
    assert (": takes about " in text.getvalue()) is is_announced


def test_the_fastest_so_far_is_told_where_trials_are_ranked() -> None:
    records = [measured_training_record(training_spec(precision=one)) for one in ("fp32", "bf16", "fp32")]
    for is_ranked in (True, False):
        text = io.StringIO()
        specs = [record.spec for record in records]
        with SweepProgress(specs, times=times(), console=Console(file=text), is_ranked=is_ranked) as progress:
            for record in records:
                progress.finished(record)
        told = ["the fastest so far" in line for line in text.getvalue().splitlines()]
        assert told == [False, is_ranked, False]


def test_on_a_terminal_there_is_a_bar_and_one_line_per_trial() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120)
    with SweepProgress([training_spec()], times=times(), console=console) as progress:
        progress.started(training_spec(), 1)
        progress.finished(measured_training_record(training_spec()))
    assert "0/1" in text.getvalue()
    assert "[1/1] training" in text.getvalue()
    assert "best so far: " in text.getvalue()


def test_accumulation_is_told_as_a_product() -> None:
    assert "batch 16 = 4 x 4" in describe_trial(training_spec(batch_size=16, micro_batch_size=4))


def test_a_failure_is_told_with_its_reason() -> None:
    cause = Cause(kind="deadline", message="still running after 10 min")
    record = record_of(training_spec(), status="timeout", cause=cause)
    assert describe_outcome(record) == "timeout, still running after 10 min"


def test_a_disturbed_trial_counts_only_when_it_ends_for_good_and_names_what_disturbed_it() -> None:
    text = io.StringIO()
    specs = [training_spec(), training_spec(batch_size=2)]
    warnings = tuple(TrialWarning(code=code, message="why") for code in ("few-steps", "throttled"))
    with SweepProgress(specs, times=times(), console=Console(file=text, width=200)) as progress:
        progress.started(specs[0], 1)
        progress.repeated(measured_training_record(specs[0], warnings=warnings))
        progress.started(specs[1], 1)
        progress.finished(measured_training_record(specs[1]))
        progress.started(specs[0], 2)
        progress.finished(measured_training_record(specs[0], attempt=1))
        progress.noted("all is over")
    lines = [line for line in text.getvalue().splitlines() if ": takes about " not in line]
    assert lines[0] == f"[0/2] {describe_trial(specs[0])}: disturbed (throttled), to be tried again"
    assert lines[1].startswith("[1/2] training: batch 2")
    assert lines[2].startswith("[2/2] training: batch 1")
    assert lines[3] == "warning: all is over"


def test_a_try_that_was_told_is_not_told_twice() -> None:
    text = io.StringIO()
    record = measured_training_record(training_spec())
    with SweepProgress([record.spec], times=times(), console=Console(file=text, width=60)) as progress:
        progress.started(record.spec, 1)
        progress.repeated(record)
        progress.finished(record)
    assert [line for line in text.getvalue().splitlines() if "takes about" not in line] == [
        f"[0/1] {describe_trial(record.spec)}: disturbed, to be tried again"
    ]
